"""RecBole's own models under the protocol of ours: the same data, split, lengths and metrics, and as strict checks."""

import copy
from functools import partial
from logging import getLogger
from pathlib import Path

import numpy as np
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import get_model, get_trainer

from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.config.schema import key_reference, keys_read_by
from recbole_metarec.data.order import in_time
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.evaluation.seen import SeenItems
from recbole_metarec.plugin.config import read_dataset, split_dataset
from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.depth import check_depth
from recbole_metarec.plugin.frames import check_counts, filled_by_our_reader
from recbole_metarec.plugin.loaders import HistoryEvalLoader
from recbole_metarec.plugin.prefix_rows import can_trim, trimmed_loaders
from recbole_metarec.plugin.recbole_checkpoint import load_recbole_checkpoint
from recbole_metarec.plugin.splitting import fail_without_held_out, split_of
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint


def warn_of_unread_keys(run: RunConfig) -> None:
    """Says which of the keys that the user gave one of RecBole's own models does not read."""
    if model_spec(run.model).is_ours:
        return
    unread = sorted(run.user.values.keys() & key_reference().keys() - keys_read_by(run.model))
    if unread:
        getLogger().warning(f"{run.model} reads only its defaults' keys and RecBole's, and so not {', '.join(unread)}")


def load_data(config):
    """(training, validation, test) loader of one of RecBole's models: trimmed where that changes nothing, else its own.

    All are filled from our reader. Raises DataError with file and line for a malformed file.
    """
    if model_spec(config["model"]).kind == "general":
        return _loaders_of_pairs(config)
    if can_trim(config):
        dataset = TransferDataset(config)
        getLogger().info(dataset)
        return trimmed_loaders(config, dataset)
    with filled_by_our_reader():
        dataset = read_dataset(config)
    check_counts(dataset)
    check_depth(dataset)
    getLogger().info(dataset)
    dataset.build = partial(_build, dataset)
    train, *evaluated = split_dataset(config, dataset)
    return train, *(HistoryEvalLoader(config, loader.dataset, None) for loader in evaluated)


def _build(dataset) -> list:
    """In the place of RecBole's build: of its prefix rows those that the split of our models has."""
    fields = dataset.uid_field, dataset.iid_field, dataset.time_field
    users, items, stamps = (dataset.inter_feat[field].to_numpy() for field in fields)
    order = in_time(users, stamps.astype(np.float32))  # RecBole sorts by float32
    store = SequenceStore.from_events(users[order], items[order], dataset.item_num)
    times = getattr(dataset, "event_times", None)
    split, words = split_of(dataset, store, None if times is None else times[order])
    dataset._change_feat_format()
    dataset._drop_unused_col()
    first = store.offsets[:-1] - np.arange(len(store.users))  # a user of n events has n - 1 rows, from the second on
    user, place = store.places()
    is_trained = (place > 0) & (place < split.trained[user])
    rows = {"train": first[user[is_trained]] + place[is_trained] - 1}
    rows |= {"validation": first[split.valid] + split.valid_at - 1, "test": first[split.test] + split.test_at - 1}
    parts = {name: dataset.copy(dataset.inter_feat[numbers]) for name, numbers in rows.items()}
    for name, which, places in (("validation", split.valid, split.valid_at), ("test", split.test, split.test_at)):
        if not len(which):
            fail_without_held_out(dataset, name)
        parts[name].seen = SeenItems.before(store, which, places)
    parts["train"].split_words = words
    return list(parts.values())


def _loaders_of_pairs(config):
    """RecBole's loaders for a general recommender, of the events and the rows that sequential models have.

    RecBole's own split differs for users of two or three events. In validation a user's training items are left out of
    the ranking, as RecBole does for these models.
    """
    dataset = TransferDataset(config)
    getLogger().info(dataset)
    parts = dataset.build()
    samplers = create_samplers(config, dataset, parts)
    named = copy.copy(config)  # RecBole chooses the loaders of autoencoders by their names
    base = model_spec(config["model"]).base or config["model"]
    named.final_config_dict = {**config.final_config_dict, "model": base}
    return tuple(
        get_dataloader(named, phase)(config, part, sampler, shuffle=phase == "train" and config["shuffle"])
        for phase, part, sampler in zip(("train", "valid", "test"), parts, samplers, strict=True)
    )


def prepare_pretrained(config, train, folder: Path, reuse: bool = False) -> None:
    """The first stage of a model that ``pretrains``, such as S3Rec; the model of the second stage reads its weights.

    Pre-trains with the model's trainer unless the config has ``train_stage: finetune``, then takes the weights of
    ``pre_model_path``. Leaves them in ``folder/pretrained.pth`` as plain tensors, which RecBole's bare ``torch.load``
    reads without unpickling anything, and the config at the second stage. reuse: what an earlier call left there is
    taken as it is. Raises CheckpointError for a file that only ``trust_pickle`` could read.
    """
    ready = folder / "pretrained.pth"
    if reuse and ready.exists():
        read_checkpoint(ready)  # raises, where the model's bare torch.load might unpickle
        config["train_stage"], config["pre_model_path"] = "finetune", str(ready)
        return
    if config["train_stage"] == "finetune":
        weights = load_recbole_checkpoint(config["pre_model_path"], "cpu", config["trust_pickle"])["state_dict"]
    else:
        model = get_model(config["model"])(config, train.dataset).to(config["device"])
        get_trainer(config["MODEL_TYPE"], config["model"])(config, model).fit(
            train, show_progress=config["show_progress"]
        )
        weights = model.state_dict()
    write_checkpoint(ready, {"state_dict": weights})
    config["train_stage"], config["pre_model_path"] = "finetune", str(ready)
