"""The runs of a comparison: every model with every seed, all under the same protocol."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from logging import getLogger
from pathlib import Path

import numpy as np

from recbole_metarec.config.dataset_files import recbole_settings
from recbole_metarec.config.models import WITHOUT_TRANSFER
from recbole_metarec.config.origins import Origins, located
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.schema import default_values, key_reference, key_table, keys_in, keys_read_by
from recbole_metarec.config.yaml_files import as_text
from recbole_metarec.data.domains import find_domain, resolve_sources
from recbole_metarec.data.item_texts import NoTextError, attribute_columns, check_text_columns
from recbole_metarec.errors import ConfigError, DataError
from recbole_metarec.evaluation.metric import NDCG_10, Metric
from recbole_metarec.evaluation.results import RunResult
from recbole_metarec.evaluation.transfer_guard import deploys_transfer, p_of_gain
from recbole_metarec.files import data_fingerprint
from recbole_metarec.jobs.competitors import Competitor
from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.runs.code_version import code_version, own_files
from recbole_metarec.runs.settings import memory_files
from recbole_metarec.runs.training import settled_config


@dataclass(frozen=True)
class Tuned:
    """A model's best configuration on validation: its config keys, and how many configurations were tried."""

    overrides: dict = field(default_factory=dict)
    trials: int = 0


def make_plan(
    models: Iterable[Competitor],
    dataset: str,
    seeds: Iterable[int],
    keys: Mapping,
    tuned: Mapping[str, Tuned] | None = None,
    origins: Origins | None = None,
) -> list[PlannedRun]:
    """The runs, seed by seed, so that an interrupted comparison has all models at its first seeds.

    keys: config keys for every model that reads them. tuned: by model name; it overrides ``keys``. origins: where the
    user set each key; a key that is not in it was set on the command line.
    Raises MetaRecError for a mistake in the keys or in the data, before anything runs.
    """
    _check_all_are_read(models := list(models), keys, origins or {})
    once = cache(_fingerprint)
    plans = [_plan_model(model, dataset, keys, (tuned or {}).get(model.name, Tuned()), once) for model in models]
    return [_with_seed(plan, seed) for seed in seeds for plan in plans]


def _check_all_are_read(models: list[Competitor], keys: Mapping, origins: Origins) -> None:
    for key in keys:
        if key != "embedding_size" and not any(key in read_by(model, keys) for model in models):
            names = ", ".join(model.name for model in models)
            problem = located(origins.get(key, f"--{key}"), f"none of {names} reads {key}")
            raise ConfigError(f"{problem}; leave it out or name a model that does")


def read_by(model: Competitor, keys: Mapping) -> dict:
    """Those of ``keys`` that ``model`` reads; keys of RecBole count as read by all."""
    read = keys_read_by(model.experiment)
    return {key: value for key, value in keys.items() if key not in key_reference() or key in read}


def _plan_model(model: Competitor, dataset: str, keys: Mapping, tuned: Tuned, fingerprint: Callable) -> PlannedRun:
    data_path = keys.get("data_path") or DEFAULT_DATA_PATH
    target = find_domain(dataset, data_path) / dataset / dataset
    read = read_by(model, keys)
    overrides = {"show_progress": False} | _same_for_all(model, keys) | read | tuned.overrides
    sources = resolve_sources(dataset, keys.get("sources", "auto"), data_path)[0] if model.spec.takes_sources else []
    if model.spec.takes_sources:
        overrides["sources"] = sources
    if model.spec.attribute_key:
        overrides |= _attributes(model.spec.attribute_key, target, overrides)
    overrides |= model.overrides
    config = settled_config(model.experiment, dataset, overrides)
    needs_text = model.needs_text or bool(config.get("text_alignment"))
    if model.spec.takes_sources and model.spec.requires_texts:
        sources = [name for name in sources if _has_texts(name, find_domain(name, data_path), config, overrides)]
        config["sources"] = overrides["sources"] = sources
    files = [target, *(find_domain(name, data_path) / name / name for name in sources)]
    data_files = [f"{file}.inter" for file in files]
    if needs_text or "item" in (config.get("load_col") or ()):  # the target must have one, a source need not
        data_files += [f"{file}.item" for file in files if file == files[0] or Path(f"{file}.item").is_file()]
    data_files += map(str, memory_files(config))
    encoder = Path(str(config.get("text_encoder"))).expanduser()
    if model.spec.is_ours and needs_text and encoder.is_dir():
        data_files += sorted(str(file) for file in encoder.rglob("*") if file.is_file())
    files_of_user = own_files(config)
    return PlannedRun(
        model=model.name,
        experiment=model.experiment,
        dataset=dataset,
        sources=sources,
        seed=config["seed"],
        overrides=overrides,
        config=config,
        code=code_version(files_of_user),
        model_files=[str(file) for file in files_of_user],
        data=fingerprint(tuple(data_files)),
        data_files=data_files,
        command="",
        trials=tuned.trials,
        reference=model.spec.reference,
    )


def _same_for_all(model: Competitor, keys: Mapping) -> dict:
    """Keys that RecBole's models have other defaults for, set to ours for a fair comparison: epochs and d."""
    if model.spec.is_ours:
        return {}
    defaults = default_values(WITHOUT_TRANSFER)
    return {"epochs": defaults["epochs"], model.spec.width_key: keys.get("embedding_size", defaults["embedding_size"])}


def _has_texts(name: str, folder: Path, config: Mapping, overrides: Mapping) -> bool:
    """Whether a source has item texts. One without is left out with a warning: it teaches a model of texts nothing.

    Raises DataError for a malformed header, as the run would.
    """
    settings = {**config, **{key: value for key, value in recbole_settings(name).items() if key not in overrides}}
    columns = [settings["text_columns"]] if isinstance(settings["text_columns"], str) else settings["text_columns"]
    try:
        check_text_columns(folder / name / f"{name}.item", columns, *_item_file_form(name, overrides))
    except NoTextError as error:
        _say_once(f"source {name} is left out: {error}")
        return False
    return True


@cache
def _say_once(line: str) -> None:
    """Warns once per line: plans are made anew for each model, trial and set of tuned keys."""
    getLogger().warning(line)


def _item_file_form(domain: str, overrides: Mapping) -> tuple[str, str, str]:
    """The format of a domain's item file: the column of items, the separator of columns, and the encoding."""
    keys = ("ITEM_ID_FIELD", "field_separator", "encoding")
    values = {**{key: key_table()[key].default for key in keys}, **recbole_settings(domain), **overrides}
    return values["ITEM_ID_FIELD"], values["field_separator"], values["encoding"] or "utf-8"


def _attributes(key: str, target: Path, overrides: Mapping) -> dict:
    """The config keys that RecBole's models of item attributes need. target: path of its files without the suffix.

    Raises DataError if the target has no item attributes.
    """
    item_field, *form = _item_file_form(target.name, overrides)
    columns = overrides.get(key) or attribute_columns(Path(f"{target}.item"), item_field, *form)
    columns = [columns] if isinstance(columns, str) else list(columns)
    inter = (overrides.get("load_col") or default_values(WITHOUT_TRANSFER)["load_col"])["inter"]
    value = columns if key == "selected_features" else columns[0]
    return {key: value, "load_col": {"inter": inter, "item": [item_field, *columns]}}


def _fingerprint(files: tuple[str, ...]) -> str:
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise DataError(
            f"{missing[0]}: no such file, and item texts are asked for; leave out text_alignment, or models of texts"
        )
    return data_fingerprint(files)


def _with_seed(plan: PlannedRun, seed: int) -> PlannedRun:
    run = replace(plan, seed=seed, command=_command(plan, seed))
    name = f"{plan.model}-{plan.dataset}-{seed}-{run.key[:8]}"
    folder = Path(plan.overrides.get("checkpoint_dir") or "saved") / "leaderboard" / name
    return replace(run, folder=str(folder))


def _command(plan: PlannedRun, seed: int) -> str:
    """The command that repeats this run alone, in the same folder."""
    keys = {key: value for key, value in plan.overrides.items() if key not in ("sources", "show_progress")}
    words = ["train", "--model", plan.typed_model, "--dataset", plan.dataset]
    words += ["--sources", ",".join(plan.sources) or "none"] if "sources" in plan.overrides else []
    words += [f"--{key}={as_text(value)}" for key, value in {"seed": seed, **keys}.items()]
    return shlex.join(["recbole-metarec", *words])


def with_guards(models: Iterable[Competitor], plan: list[PlannedRun], results: list[RunResult]) -> list[RunResult]:
    """The results with ``guarded_test`` where MetaRec's transfer guard can be computed from other runs.

    The guard would train the model without transfer from the same seed. That model equals a run of LRURec to the bit if
    the comparison has one with the same values of its keys.
    """
    guarded = {model.name for model in models if model.guarded}
    planned = {(run.model, run.seed): run for run in plan}
    runs = [(planned[result.model, result.seed], result) for result in results]
    without = [(run, result) for run, result in runs if run.experiment == WITHOUT_TRANSFER]
    return [
        _guarded(run, result, without) if run.model in guarded and result.guarded_test is None else result
        for run, result in runs
    ]


def _guarded(run: PlannedRun, result: RunResult, without: list[tuple[PlannedRun, RunResult]]) -> RunResult:
    same = (other for its, other in without if its.seed == run.seed and same_backbone(run.config, its.config))
    other = next(same, None)
    if other is None:
        return result
    metric = Metric.named(run.config["valid_metric"])
    chosen = result if deploys_transfer(guards_p(result, other, metric)) else other
    return replace(result, guarded_test=chosen.test, unseen=replace(result.unseen, guarded_test=chosen.unseen.test))


def guards_p(ours: RunResult, without: RunResult, metric: Metric = NDCG_10) -> float:
    """The p-value that the transfer guard decides by: of a run's gain on validation over the run without transfer."""
    by_user = [
        dict(zip(run.test_users.tolist(), run.valid_ranks.tolist(), strict=True)) | run.only_valid
        for run in (ours, without)
    ]
    users = [user for user, rank in by_user[0].items() if rank]
    return p_of_gain(*(np.array([ranks[user] for user in users]) for ranks in by_user), metric)


def same_backbone(ours: Mapping, without: Mapping) -> bool:
    """Whether both configs give the same model without transfer. without: config of a run of that model."""
    keys = {*key_reference(WITHOUT_TRANSFER), *without} - keys_in("machine", "repetition") - {"model", "MODEL_TYPE"}
    return all(ours.get(key) == without[key] for key in keys)
