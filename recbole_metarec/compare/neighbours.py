"""Nearest neighbours across domains: which target items a source's items are read as, and whether they mean the same.

Read from the state after the last epoch of a run, the only one that contains the sources' item tables.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from recbole.utils import get_model
from scipy import stats

from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.item_texts import attribute_columns, read_item_texts
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.evaluation.intervals import Interval
from recbole_metarec.model.metarec_network import MetaRecNetwork, SourceItems
from recbole_metarec.model.quantizer import nearest_codes
from recbole_metarec.plugin.checkpoint_config import config_from_json
from recbole_metarec.plugin.dataset import TransferDataset, read_source_items
from recbole_metarec.trainer.checkpoint import load_model, read_checkpoint

_ROWS = 1024  # source items whose distances to all target items are held at once


@dataclass(frozen=True)
class Catalogue:
    """Items of a domain without padding. names: [n]. texts: [n], None where the domain has none. events: int [n]."""

    domain: str
    names: list[str]
    texts: list[str] | None
    events: np.ndarray


@dataclass(frozen=True)
class Mapping:
    """A source's items in the target's space; target items are counted from 0, padding aside.

    codes: int64 [n, H], whose slice stands for each slice of a source item; H = 0 without vector quantization.
    nearest: int64 [n, k], by the whole vector (squared Euclidean), nearest first.
    """

    source: Catalogue
    codes: np.ndarray
    nearest: np.ndarray


@dataclass(frozen=True)
class Mappings:
    """All sources of a run. epoch: after which the tables were written."""

    target: Catalogue
    sources: tuple[Mapping, ...]
    epoch: int


def read_mappings(run_folder: str | Path, names: list[str] | None = None, k: int = 3, data_path=None) -> Mappings:
    """The mappings of a MetaRec run. names: of sources (None: all). data_path: where the domains are now.

    Raises CheckpointError if the folder holds no such run, DataError for a source that the run did not have, and for
    data that is missing or has changed since the run.
    """
    saved, last_file = _files(Path(run_folder))
    content, last = read_checkpoint(saved), read_checkpoint(last_file)
    if not last.get("source_sides"):
        raise CheckpointError(f"{last_file}: no source in it; give the folder of a run of MetaRec with sources")
    sides = last["source_sides"]["sides"]
    for name in names or ():
        if name not in sides:
            raise DataError(f"--sources: {name} was no source of this run; choose from {', '.join(sides)}")
    config = config_from_json(content["config"], data_path, data_may_be_absent=False)
    # a deployed model needs no text; the state of training has the map and not the texts
    config["text_alignment"] = "text_map.weight" in last["state_dict"]
    domains = data_path or config.external_config_dict.get("data_path") or Path(config["data_path"]).parent
    dataset = TransferDataset(config)
    training = dataset.build()[0]
    model = load_model(lambda: get_model(config["model"])(config, training), last, last_file)
    texts = {}
    if config["text_alignment"]:
        config["sources"] = list(sides)
        texts = dict(zip(sides, dataset.text_vectors.sources, strict=True))
        model.text_map.set_texts(dataset.text_vectors.target)
    mappings = []
    for name in names or list(sides):
        folder = find_domain(name, domains)
        store, items = read_source_items(config, name, folder, dataset.training_end)
        table, bias = sides[name]["table"], sides[name]["bias"]
        if len(table) != len(items):
            raise DataError(f"{name}: {len(items) - 1} items, but the run has read {len(table) - 1}; use its data")
        source_items = SourceItems(table, bias, None, torch.from_numpy(texts[name]) if name in texts else None)
        mappings.append(_mapping(_catalogue(folder / name, store, items, config), source_items, model, k))
    items = [str(item) for item in dataset.id2token(dataset.iid_field, range(dataset.item_num))]
    target = _catalogue(Path(dataset.dataset_path), dataset.store, items, config)
    return Mappings(target, tuple(mappings), int(last["epoch"]))


def _files(folder: Path) -> tuple[Path, Path]:
    """The model and the last state of a run's folder, or of the one run in a folder of the leaderboard."""
    files = [file for pattern in ("model.pth", "*/model.pth") for file in sorted(folder.glob(pattern))]
    if len(files) != 1:
        what = f"{len(files)} runs" if files else "no model.pth"
        raise CheckpointError(
            f"{folder}: {what} in it; give the folder of one run of MetaRec, such as saved/MetaRec-..."
        )
    # where the guard has deployed the other one
    transfer = files[0].with_name("model-transfer.pth")
    return transfer if transfer.exists() else files[0], files[0].with_name("model-last.pth")


def _catalogue(folder: Path, store: SequenceStore, items: list[str], config) -> Catalogue:
    """folder: the domain's, named as the domain. items: by id, padding first."""
    file = folder / f"{folder.name}.item"
    form = config["ITEM_ID_FIELD"], config["field_separator"], config["encoding"] or "utf-8"
    texts = read_item_texts(file, items, attribute_columns(file, *form), *form)[1:] if file.is_file() else None
    return Catalogue(folder.name, items[1:], texts, store.item_counts(store.lengths)[1:])


@torch.no_grad()
def _mapping(source: Catalogue, items: SourceItems, model: MetaRecNetwork, k: int) -> Mapping:
    parameters = dict(model.named_parameters())
    vectors, table = model.source_table(parameters, items)[1:], model.item_table(parameters)
    candidates = model.candidate_codes
    codes = torch.zeros(len(vectors), 0, dtype=torch.int64)
    if model.vq_heads:
        codes = nearest_codes(vectors, table, model.vq_heads, candidates) - 1
    rows = torch.arange(1, len(table)) if candidates is None else candidates
    k = min(k, len(rows))
    near = [torch.cdist(part, table[rows]).topk(k, largest=False).indices for part in vectors.split(_ROWS)]
    return Mapping(source, codes.numpy(), (rows[torch.cat(near)] - 1).numpy())


# -- whether matched items mean the same ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Likeness:
    """Mean cosine of the TF-IDF vectors of matched items' texts, and of the same items matched at random.

    pairs: of a source and a target item that both have a text. random: the mean over all ways to deal the very same
    target items out to the source items. apart: matched minus random, with a 95 % interval that allows for items that
    occur in several pairs.
    """

    source: str
    how: str
    pairs: int
    matched: float
    random: float
    apart: Interval


def likeness(target: Catalogue, mapping: Mapping) -> list[Likeness]:
    """By the nearest whole vector and, with quantization, by the slices. Empty where a side has no texts."""
    source = mapping.source
    if target.texts is None or source.texts is None:
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer  # heavy, and texts are rare

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    try:
        vectorizer.fit([*target.texts, *source.texts])
    except ValueError as error:
        raise DataError(f"{target.domain} and {source.domain}: their texts hold no word ({error})") from None
    sides = [vectorizer.transform(texts) for texts in (source.texts, target.texts)]
    ways = {"whole vector": mapping.nearest[:, :1], "slices": mapping.codes}
    measured = [_likeness(source.domain, how, *sides, codes) for how, codes in ways.items() if codes.shape[1]]
    return [result for result in measured if result is not None]


def _likeness(name: str, how: str, ours, theirs, codes: np.ndarray) -> Likeness | None:
    """ours, theirs: sparse rows of unit length or zero. codes int64 [n, H]: the pairs."""
    first = np.repeat(np.arange(len(codes)), codes.shape[1])
    second = codes.ravel()
    told = (ours.getnnz(axis=1) > 0)[first] & (theirs.getnnz(axis=1) > 0)[second]
    first, second = first[told], second[told]
    if len(first) < 2:
        return None
    left, right = ours[first], theirs[second]
    matched = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    # the expectation over all ways to deal: the mean of what was dealt, against each item
    random = np.asarray(left @ np.asarray(right.mean(axis=0)).ravel()).ravel()
    return Likeness(
        source=name,
        how=how,
        pairs=len(first),
        matched=float(matched.mean()),
        random=float(random.mean()),
        apart=paired_interval(matched - random, first, second),
    )


def paired_interval(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> Interval:
    """Mean of values [n] of pairs of items, and its 95 % interval where items occur in several pairs.

    first, second int [n]: the items of each pair. Two-way cluster-robust variance (Cameron, Gelbach & Miller 2011,
    "Robust inference with multiway clustering", equation 2.11), at least that of either side alone; Student's t with
    the fewer items of the two sides.
    """
    mean, n = float(values.mean()), len(values)
    both = np.unique(np.stack([first, second]), axis=1, return_inverse=True)[1].ravel()
    variances, groups = [], []
    for items in (first, second, both):
        sums, count = np.bincount(items, weights=values - mean), len(np.unique(items))
        variances.append((sums**2).sum() / n**2 * count / max(1, count - 1))
        groups.append(count)
    variance = max(*variances[:2], variances[0] + variances[1] - variances[2])
    fewest = min(groups[:2])
    if fewest < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(np.sqrt(variance) * stats.t.ppf(0.975, fewest - 1))
    return Interval(mean, mean - half, mean + half)
