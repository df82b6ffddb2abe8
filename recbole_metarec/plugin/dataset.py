"""RecBole datasets of this package: the target with its split and the sources beside it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction

from recbole_metarec.config.dataset_files import domain_settings
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.resources import DEFAULT_DATA_PATH
from recbole_metarec.config.time_points import TimePoints
from recbole_metarec.data.domains import find_domain, resolve_sources, sources_warning
from recbole_metarec.data.filters import value_fault
from recbole_metarec.data.item_texts import NoTextError, read_item_texts
from recbole_metarec.data.order import in_time
from recbole_metarec.data.reader import NeedsRecBole, ReadSpec, read_domain
from recbole_metarec.data.sequences import HistorySplit, SequenceStore, training_windows
from recbole_metarec.data.source import Source
from recbole_metarec.data.text_vectors import TextSpace, TextVectors, encode_domains
from recbole_metarec.data.time_split import TrainingEnd
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.seen import SeenItems
from recbole_metarec.files import cache_dir
from recbole_metarec.plugin.categories import filter_by_counts, number_names
from recbole_metarec.plugin.depth import check_depth
from recbole_metarec.plugin.frames import check_counts, load_feat, settle_rows, tell
from recbole_metarec.plugin.held_out_rows import HeldOutRows
from recbole_metarec.plugin.splitting import fail_without_held_out, split_of


class TransferDataset(SequentialDataset):
    """The target as our reader reads it and RecBole filters and renumbers it, a flat store in place of prefix rows.

    :meth:`build` gives the training part (with its windows and the sources) and the held-out rows in RecBole's form.
    event_times: when each event was, [N], where the split goes by it, else None. Raises DataError, with file and line
    where there is one, before anything is trained on a misread file.
    """

    def __init__(self, config):
        self.store: SequenceStore | None = None
        self.trained: np.ndarray | None = None
        self.event_times: np.ndarray | None = None
        try:
            super().__init__(config)
            check_counts(self)
        except DataError:
            raise
        except ValueError as error:
            remedy = (
                "check the filter keys (user_inter_num_interval, item_inter_num_interval, val_interval) and columns"
            )
            raise DataError(f"{config['data_path']}: {error}; {remedy}") from error

    def _download(self):
        """RecBole would ask at the terminal whether to fetch a domain whose folder is not there."""
        raise DataError(f"{self.dataset_path}: there is no such folder; check the name and data_path")

    def _load_feat(self, filepath, source):
        feat = load_feat(self, filepath, source, categories=True)
        columns = set() if feat is None else self._get_load_and_unload_col(source)[0] or set()
        absent = sorted(columns - set(feat.columns)) if columns else ()
        if absent:
            raise DataError(f"{filepath}:1: no column {absent[0]}, which load_col asks for; remove it there, or add it")
        return feat

    def _filter_by_inter_num(self):
        if not filter_by_counts(self):
            super()._filter_by_inter_num()

    def _reset_index(self):
        settle_rows(self)
        super()._reset_index()

    def _remap(self, remap_list):
        if not number_names(self, remap_list):
            super()._remap(remap_list)

    def _filter_by_field_value(self):
        """RecBole takes intervals for names where a column holds names, and leaves out those that it cannot read."""
        for field, allowed in (self.config["val_interval"] or {}).items():
            if field not in self.field2type:
                fault = f"val_interval filters by {field}, which no file has; add the column, or take it out"
            else:
                fault = value_fault(field, self.field2type[field].value, allowed)
            if fault:
                raise DataError(f"{self.dataset_path}: {fault}")
        super()._filter_by_field_value()

    def data_augmentation(self):
        """Orders the events by user and time; prefixes are gathered when they are asked for, never stored."""
        self._check_field("uid_field", "time_field")
        self._aug_presets()
        if self.event_times is not None:
            order = in_time(*(self.inter_feat[field].numpy() for field in (self.uid_field, self.time_field)))
            self.event_times = self.event_times[order]
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        users, items = self.inter_feat[self.uid_field].numpy(), self.inter_feat[self.iid_field].numpy()
        self.store = SequenceStore.from_events(users, items, self.item_num)

    def build(self):
        """[training part, validation rows, test rows], each a dataset of its own.

        Raises DataError if no user has a validation row, or none a test row, ConfigError for a ``topk`` above the
        number of items.
        """
        self._change_feat_format()
        split = self.split
        self._check_rows(split)
        check_depth(self)
        trained = _events_before(self.store, split.trained)
        # RecBole would make a Python list of the rows first
        train = self.copy(Interaction({name: self.inter_feat[name][trained] for name in self.inter_feat}))
        train.trained = split.trained
        return [train, self._part(split.valid, split.valid_at), self._part(split.test, split.test_at)]

    @cached_property
    def split(self) -> HistorySplit:
        """Which events train and which are held out."""
        return self._split_and_words[0]

    @property
    def split_words(self) -> str:
        """How the events are split, for readers."""
        return self._split_and_words[1]

    @cached_property
    def _split_and_words(self) -> tuple[HistorySplit, str]:
        return split_of(self, self.store, self.event_times)

    @cached_property
    def seen(self) -> SeenItems:
        """Of a part with held-out rows: what each has seen before."""
        return SeenItems.before(*self._held_out)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The source domains, read when training asks for them: a saved model is loaded and served without any."""
        return read_sources(self.config, self.training_end)

    @property
    def training_end(self) -> TrainingEnd | None:
        """Where the split is by time: what sources must not be read beyond."""
        points = TimePoints.of(self.config["eval_args"])
        return points and TrainingEnd.of(points, self.event_times, Path(self.dataset_path))

    @cached_property
    def texts(self) -> list[str]:
        """The text of each item in the order of ids. Raises NoTextError where the domain has none."""
        items = self.id2token(self.iid_field, range(self.item_num))
        return _texts(self.config, Path(self.dataset_path) / f"{self.dataset_name}.item", items)

    @cached_property
    def text_vectors(self) -> TextVectors:
        """Vectors of the item texts of the target and of the sources, in one space."""
        config = self.config
        whitening = config["text_whitening"]
        space = TextSpace(config["text_encoder"], config["text_width"], config["text_space"], whitening)
        texts = [source.texts or [""] * source.store.n_items for source in self.sources]
        return encode_domains(self.texts, texts, space, config["drop_ratio"], str(config["device"]))

    def read_ahead(self) -> tuple[Source, ...]:
        """Reads now what training will ask for, so that a bad file ends a run before it starts; the sources."""
        if reads_texts(self.config):
            self.text_vectors  # noqa: B018
        return self.sources

    def inter_matrix(self, form="coo", value_field=None):
        """RecBole's matrix of users and items; that of its sequential datasets looks for prefix rows."""
        return super(SequentialDataset, self).inter_matrix(form, value_field)

    def _check_rows(self, split: HistorySplit) -> None:
        for rows, name in ((split.valid, "validation"), (split.test, "test")):
            if not len(rows):
                fail_without_held_out(self, name)
        if self.event_times is not None:
            self.logger.info(
                f"{self.dataset_name}: split {self.split_words}; {int(split.trained.sum())} of {len(self.store.items)} "
                "events train"
            )
            return
        short = int((self.store.lengths < 4).sum())
        if short:
            self.logger.warning(
                f"{self.dataset_name}: {short} of {len(self.store.users)} users have fewer than 4 events: "
                f"3 give a test row but no validation row, 2 only training ({len(split.valid)} validation rows, "
                f"{len(split.test)} test rows)"
            )

    def _part(self, which: np.ndarray, places: np.ndarray) -> "TransferDataset":
        lengths = torch.from_numpy(np.minimum(places, self.max_item_list_len))
        targets = self._targets(which, places)
        names = [self.item_list_length_field]
        for field in targets:
            names += [field] if field == self.uid_field else [field, getattr(self, f"{field}_list_field")]
        held = {self.item_list_length_field: lengths, **targets}
        part = self.copy(HeldOutRows(names, held, lambda rows: self._rows(which[rows], places[rows])))
        part.store = None  # its rows stand in inter_feat
        part._held_out = self.store, which, places
        return part

    def _targets(self, which: np.ndarray, ends: np.ndarray) -> dict[str, torch.Tensor]:
        """Every column of events ``ends`` of users ``which``."""
        target = torch.from_numpy(self.store.offsets[which] + ends)
        return {field: self.inter_feat[field][target] for field in self.inter_feat}

    def _rows(self, which: np.ndarray, ends: np.ndarray) -> dict[str, torch.Tensor]:
        """RecBole's prefix rows with target ``ends`` of users ``which``: every column and its list, and the length."""
        index, real = map(torch.from_numpy, self.store.prefix_rows(which, ends, self.max_item_list_len))
        columns = {self.item_list_length_field: real.sum(dim=1)}
        for field, values in self._targets(which, ends).items():
            columns[field] = values
            if field != self.uid_field:
                mask = real.view(real.shape + (1,) * (values.dim() - 1))
                columns[getattr(self, f"{field}_list_field")] = self.inter_feat[field][index] * mask.to(values.dtype)
        return columns

    def __getitem__(self, index, join=True):
        """Rows as RecBole has them; before the split row r is the r-th of all prefix rows."""
        if self.store is None or self.trained is not None:
            return super().__getitem__(index, join)
        rows = np.arange(int(np.maximum(self.store.lengths - 1, 0).sum()))[np.asarray(index)]
        ends = np.cumsum(np.maximum(self.store.lengths - 1, 0))
        which = np.searchsorted(ends, rows, side="right")
        before = ends[which] - np.maximum(self.store.lengths - 1, 0)[which]
        prefixes = Interaction(self._rows(np.atleast_1d(which), np.atleast_1d(rows - before + 1)))
        return self.join(prefixes) if join else prefixes


def _events_before(store: SequenceStore, kept: np.ndarray) -> torch.Tensor:
    user, place = store.places()
    return torch.from_numpy(np.flatnonzero(place < kept[user]))


def reads_texts(config) -> bool:
    """Whether this model reads item texts: where it requires them, with ``text_alignment`` or ``memory_texts``."""
    spec = model_spec(config["model"])
    wanted = config["text_alignment"] or (config["item_memory"] and config["memory_texts"] is True)
    return spec.requires_texts or (spec.texts == "optional" and bool(wanted))


def user_names(dataset, users) -> np.ndarray:
    """The original names of users, an array even of one, for whom RecBole has a bare text. users: their ids [U]."""
    return np.atleast_1d(np.asarray(dataset.id2token(dataset.uid_field, users), dtype=str))


def read_sources(config, until: TrainingEnd | None = None) -> tuple[Source, ...]:
    """The source domains that the config asks for, each read, filtered and renumbered as RecBole does.

    until: of a target that is split by time; what happened later in a source is left out.
    Reads nothing for models without transfer. A model that reads texts does without the sources that have none, and
    says so. Raises DataError if a source that was named is missing or malformed.
    """
    spec = model_spec(config["model"])
    if not spec.takes_sources or config["meta_transfer"] == "none":
        return ()
    if spec.requires_texts and not config["pretrain_epochs"]:
        return ()
    # config["data_path"] is where the target was found, which may be the cache; sources are sought where the user said
    beside = Path(config["data_path"]).parent
    usual = DEFAULT_DATA_PATH if beside == cache_dir().absolute() else beside
    folder = Path(config.external_config_dict.get("data_path") or usual)
    present, missing = resolve_sources(config["dataset"], config["sources"], folder)
    if missing:
        getLogger().warning(f"sources without data, left out: {', '.join(missing)}")
    if warning := sources_warning(config["dataset"], config["sources"], folder):
        getLogger().warning(warning)
    found = (_read_source(config, name, find_domain(name, folder), until) for name in present)
    sources = tuple(filter(None, found))
    if spec.requires_texts and (present or missing) and not sources:
        getLogger().warning(f"no source has item texts: {config['model']} starts on the target from scratch")
    return sources


def _source_config(config, name: str, folder: Path):
    source = copy.copy(config)
    settings = {key: value for key, value in domain_settings(name).items() if key in config}
    # what the user has set holds for every domain; the rest is the source's own
    settings = {key: value for key, value in settings.items() if key not in config.external_config_dict}
    domain = {"dataset": name, "data_path": str(folder / name), "meta_transfer": "none"}
    source.final_config_dict = {**config.final_config_dict, **settings, **domain}
    return source


def read_source_items(
    config, name: str, folder: Path, until: TrainingEnd | None = None
) -> tuple[SequenceStore, list[str]]:
    """A source's events beside the target of ``config``, and its items' names by id, padding first."""
    store, names = _read_store(_source_config(config, name, folder), folder / name / f"{name}.inter", until)
    return store, [str(item) for item in names()]


def _read_source(config, name: str, folder: Path, until: TrainingEnd | None) -> Source | None:
    source_config, file = _source_config(config, name, folder), folder / name / f"{name}.inter"
    store, item_names = _read_store(source_config, file, until)
    if not len(training_windows(store, store.lengths, config["MAX_ITEM_LIST_LENGTH"])):
        when = " before the target's training ends" if until else ""
        raise DataError(f"{folder / name}: no user of this source has two events{when}; leave {name} out of sources")
    texts = None
    if reads_texts(config):
        try:
            texts = _texts(source_config, file.with_suffix(".item"), item_names())
        except NoTextError as error:
            if model_spec(config["model"]).requires_texts:
                getLogger().warning(f"source {name} is left out: {error}")
                return None
            getLogger().warning(f"source {name} is aligned by its events alone: {error}")
    getLogger().info(f"source {name}: {len(store.users)} users, {store.n_items - 1} items, {len(store.items)} events")
    return Source(name, file, store, texts)


def _read_store(config, file: Path, until: TrainingEnd | None) -> tuple[SequenceStore, Callable[[], Sequence[str]]]:
    """The events of a source, and what tells the names of its items in the order of their ids, padding first."""
    try:
        domain = read_domain(file, replace(ReadSpec.of(config), timed=until is not None))
    except NeedsRecBole:
        domain = TransferDataset(config)
        domain._change_feat_format()
        names = lambda: domain.id2token(domain.iid_field, range(domain.item_num))  # noqa: E731
    else:
        tell(file.stem, domain.summary, config["exact_time"])
        names = lambda: ["[PAD]", *domain.items]  # noqa: E731
    store = domain.store
    return until.past_of(store, domain.event_times, file) if until else store, names


def _texts(config, file: Path, items: Sequence[str]) -> list[str]:
    form = config["ITEM_ID_FIELD"], config["field_separator"], config["encoding"] or "utf-8"
    return read_item_texts(file, items, _listed(config["text_columns"]), *form)


def _listed(value) -> list[str]:
    """A single value stands for a list of one."""
    return [value] if isinstance(value, str) else list(value)
