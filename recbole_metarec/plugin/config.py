"""RecBole's Config for one run, from files and values, without a look at ``sys.argv``."""

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory

from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from recbole_metarec.config.checks import check_keys, read_yaml
from recbole_metarec.plugin.on_import import shielded_argv

# Set while a Config is being built, for the hooks that check it.
places_given: ContextVar[dict | None] = ContextVar("places_given", default=None)  # key -> where it was given
data_may_be_absent: ContextVar[bool] = ContextVar("data_may_be_absent", default=False)


def build_config(
    model: str,
    dataset: str,
    config_files=(),
    overrides: dict | None = None,
    places: dict | None = None,
    without_data: bool = False,
) -> Config:
    """RecBole's Config for one run: defaults under the files, in their order, under ``overrides``.

    Texts are taken as they are (RecBole would make ``[1]`` a list), ``sys.argv`` is not read, nothing given is changed.
    places: where an override was given, for messages (``--key``); else ``config_dict``.
    without_data: build it although the data is not there, as for serving a saved model.
    Raises ConfigError for an unknown key, a value out of range or keys in conflict, DataError if there is no data.
    """
    values, found = {}, {}
    for path in config_files:
        in_file, lines = read_yaml(path)
        values.update(in_file)
        found.update({key: f"{path}:{line}" for key, line in lines.items()})
    values.update(overrides or {})
    found.update({key: (places or {}).get(key, "config_dict") for key in overrides or {}})
    check_keys(values, found)
    literal = {key: repr(str(value)) if isinstance(value, str) else value for key, value in values.items()}
    tokens = places_given.set(found), data_may_be_absent.set(without_data)
    try:
        with shielded_argv():
            return Config(model=model, dataset=dataset, config_dict=literal)
    finally:
        places_given.reset(tokens[0])
        data_may_be_absent.reset(tokens[1])


@contextmanager
def nothing_unpickled(config):
    """Within, RecBole reads data from the data's own files.

    It would rather unpickle whatever an earlier run has left in ``checkpoint_dir``, also when the files have changed.
    """
    keys = ("dataset_save_path", "dataloaders_save_path")
    with TemporaryDirectory() as empty:
        for key in keys:
            config[key] = str(Path(empty) / key)
        try:
            yield
        finally:
            for key in keys:
                config[key] = None


def read_dataset(config):
    """RecBole's dataset for ``config``, from the data's own files. Raises DataError for a malformed one."""
    with nothing_unpickled(config):
        return create_dataset(config)


def split_dataset(config, dataset) -> tuple:
    """RecBole's (training, validation, test) loader of a dataset, cut anew and never unpickled."""
    with nothing_unpickled(config):
        return data_preparation(config, dataset)
