"""The registry of models: what each is, as facts. Nothing else in the package asks a model for its name.

``SHIPPED_SPECS`` lists the models of this package, and those of RecBole about which more is known than RecBole's files
say. Users name theirs as ``my_model.py:MyModel`` (:mod:`.model_names`), or add them with :func:`register_model` or with
an entry point of the group ``recbole_metarec.models``. Facts are light: classes are named by path and imported
when they are asked for.

To ship one more model, add its spec here, its class in ``model/NAME.py`` and its keys in
``properties/model/NAME.yaml``; one that is fitted has its class in ``baselines/``. A model that is served also has its
network in ``model/saved_network.py``, one that is tuned its space in ``properties/search/``;
``docs/make_reference.py`` then shows its keys.
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from recbole_metarec.config.own_models import (
    is_users,
    settings_file,
    settings_of,
    source_files,
)
from recbole_metarec.config.recbole_files import recbole_model_keys, recbole_models
from recbole_metarec.errors import ConfigError

GROUP = "recbole_metarec.models"
DEFAULT_MODEL = "MetaRec"
WITHOUT_TRANSFER = "LRURec"  # what DEFAULT_MODEL is without sources: the same backbone, seed and order of the data
_TRANSFER_TRAINER = "recbole_metarec.trainer.trainer:TransferTrainer"
KINDS = ("sequential", "general")  # of RecBole's models: those that rank a catalogue for a user
_BASES = {kind: f"recbole.model.abstract_recommender:{kind.title()}Recommender" for kind in KINDS}


@dataclass(frozen=True)
class ModelSpec:
    """What a model is.

    model, trainer: the class, or its path ``package.module:Class``; None for RecBole's own of that name, and for the
    trainer that RecBole chooses.
    base: the model whose config keys it has, one of this package's or of RecBole's.
    is_ours: whether it is built on a model of this package and so has our keys, checks, datasets and loaders.
    defaults: config keys, stronger than those of ``base``; keys that are new are its own.
    takes_sources: whether it learns from source domains. texts: whether it reads item texts: ``none``, ``optional``
    (with ``text_alignment``) or ``required``.
    without_transfer: the model that ``meta_transfer: none`` makes of it, which a run trains as its baseline; "" for one
    that does not read the key. A user's subclass inherits the name, but its baseline is the subclass itself with
    ``meta_transfer: none``.
    is_fitted: it is one of :mod:`recbole_metarec.baselines`, fitted as soon as it is made; seeds change nothing.
    beside: config keys of the parts beside its scores, with the values that switch them off: the defaults of a
    subclass with a score or a loss of its own.
    pretrains: RecBole trains it in two stages.
    attribute_key: the config key that names the columns of item attributes which it reads.
    ignores_padding: its loss and scores are the same to rounding, however much padding follows a history.
    transform: the ``transform`` of histories that it is trained with.
    kind: ``sequential`` or, for one of RecBole's that knows a user by the set of training items, ``general``.
    reference: of a user's class, what names it in another process: ``my_model.py:MyModel``; else "".
    """

    name: str
    model: str | type | None = None
    trainer: str | type | None = None
    base: str = ""
    is_ours: bool = False
    defaults: Mapping[str, object] = field(default_factory=dict)
    takes_sources: bool = False
    texts: str = "none"
    without_transfer: str = ""
    is_fitted: bool = False
    beside: Mapping[str, object] = field(default_factory=dict)
    pretrains: bool = False
    attribute_key: str = ""
    ignores_padding: bool = False
    transform: str | None = None
    kind: str = "sequential"
    reference: str = ""

    @property
    def typed(self) -> str:
        """What ``--model`` takes for it."""
        return self.reference or self.name

    @property
    def is_own(self) -> bool:
        """Whether it is a user's."""
        return inspect.isclass(self.model)

    @property
    def requires_texts(self) -> bool:
        """Whether it can learn nothing of items without texts."""
        return self.texts == "required"

    @property
    def width_key(self) -> str:
        """The config key of d: some of RecBole's models call it embedding_size, the Transformers hidden_size."""
        keys = set() if self.is_ours else recbole_model_keys(self.base or self.name) | self.defaults.keys()
        return "hidden_size" if "hidden_size" in keys and "embedding_size" not in keys else "embedding_size"

    @property
    def source_files(self) -> tuple[Path, ...]:
        """The files that a user's model and trainer consist of: see :func:`.own_models.source_files`."""
        return source_files(given for given in (self.model, self.trainer) if inspect.isclass(given))

    @property
    def settings_file(self) -> Path | None:
        """The YAML beside a user's class, if there is one."""
        return settings_file(self.model) if self.is_own else None

    def load_model(self) -> type:
        """The class."""
        return load(self.model or f"recbole.model.{self.kind}_recommender:{self.name}")

    def load_trainer(self) -> type | None:
        """The class of its trainer; None for the one that RecBole chooses, which may have one for the base's name."""
        if self.trainer or not self.is_own or self.is_ours:
            return self.trainer and load(self.trainer)
        return getattr(importlib.import_module("recbole.trainer"), f"{self.base}Trainer", None)


def load(path: str | type) -> type:
    """The class that ``package.module:Class`` names, imported now; a class is returned as it is."""
    if not isinstance(path, str):
        return path
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _ours(name: str, trainer: str = _TRANSFER_TRAINER, **facts) -> ModelSpec:
    model = f"recbole_metarec.model.{name.lower()}:{name}"
    return ModelSpec(name, model, trainer, base=name, is_ours=True, **facts)


def _fitted(name: str, module: str, **facts) -> ModelSpec:
    model = f"recbole_metarec.baselines.{module}:{name}"
    trainer = "recbole_metarec.trainer.fitted:FittedTrainer"
    return ModelSpec(name, model, trainer, base=name, is_ours=True, is_fitted=True, **facts)


_MEMORY = {"seen_offset": False, "item_memory": False}
_SCORING = {"forward", "score", "score_of", "calculate_loss", "target_loss"}  # what works with states, scores or losses

SHIPPED_SPECS = (
    _ours("LRURec", texts="optional", beside=_MEMORY),
    _ours("MetaRec", takes_sources=True, texts="optional", without_transfer=WITHOUT_TRANSFER, beside=_MEMORY),
    _ours("UniSRec", "recbole_metarec.trainer.unisrec:TextTrainer", takes_sources=True, texts="required"),
    # RecBole's own Pop, ItemKNN and EASE keep their names: they score users by what training has of them
    _fitted("SequentialPop", "pop"),
    _fitted("SequentialItemKNN", "item_knn"),
    _fitted("ItemKNNDecay", "item_knn"),
    _fitted("SequentialEASE", "linear"),
    _fitted("EASEDecay", "linear"),
    _fitted("STAN", "stan"),
    _fitted("SLIST", "linear"),
    _fitted("TextKNN", "text_knn", texts="required"),
    ModelSpec("SASRec", ignores_padding=True),
    ModelSpec("GRU4Rec", ignores_padding=True),
    ModelSpec("BERT4Rec", ignores_padding=True, transform="mask_itemseq"),
    ModelSpec("FDSA", attribute_key="selected_features", ignores_padding=True),
    ModelSpec(
        "S3Rec",
        attribute_key="item_attribute",
        ignores_padding=True,
        pretrains=True,
        trainer="recbole.trainer:S3RecTrainer",
    ),
    ModelSpec("SASRecF", ignores_padding=True),
    ModelSpec("GRU4RecF", ignores_padding=True),
    ModelSpec("NARM", ignores_padding=True),
    ModelSpec("CORE", ignores_padding=True),
    ModelSpec("GCSAN", ignores_padding=True),
    ModelSpec("SRGNN", ignores_padding=True),
)
SHIPPED_MODELS = tuple(spec.name for spec in SHIPPED_SPECS if spec.is_ours)
_SPECS = {spec.name: spec for spec in SHIPPED_SPECS}
_REGISTERED: dict[str, ModelSpec] = {}  # what users added


def register_model(
    model: type,
    trainer: type | None = None,
    defaults: Mapping[str, object] | None = None,
    takes_sources: bool | None = None,
    texts: str | None = None,
) -> ModelSpec:
    """Make a model known under its class's name to the library, to the command line and to RecBole's functions.

    model: a SequentialRecommender or GeneralRecommender of RecBole's, or a subclass of LRURec, MetaRec or UniSRec. A
    subclass has the config keys, and unless they are given the trainer and other facts, of what it is derived from.
    A subclass of ours that scores as its parent does says so by ``network = LRUNetwork`` (or UniSRecNetwork) in its
    body; without that line ``Recommender`` needs its data, since the parent's network would answer with other scores.
    defaults: config keys, stronger than the parent's. Name there every key that the class reads beside the parent's:
    an unknown one becomes a key of this model, with the type of its default. They may also be given in a dict
    ``defaults`` of the class or in a YAML beside it (:mod:`.own_models`), which are weaker. A class that defines
    forward, a score or a loss of its own gets the encoder's states alone: name ``seen_offset`` and ``item_memory`` to
    have them.
    takes_sources, texts: as in :class:`ModelSpec`.
    Returns what was registered. Raises ConfigError for a class that is no such model, a name that is taken, or facts
    that do not fit.
    """
    kinds = [kind for kind, base in _BASES.items() if inspect.isclass(model) and base in _ancestry(model)]
    if not kinds:
        raise ConfigError(
            f"register_model: {model!r} is neither a SequentialRecommender nor a GeneralRecommender; derive it from "
            "one of these classes of RecBole's"
        )
    _check_methods(model, kinds[0])
    parent = _parent(model)
    name, known = model.__name__, _known_to_others()
    if name in known or (name in _REGISTERED and _path(_REGISTERED[name].model) != _path(model)):
        raise ConfigError(f"register_model: there is a model {name} already; give the class another name")
    texts = parent.texts if texts is None else texts
    if texts not in ("none", "optional", "required"):
        raise ConfigError(f"register_model: {name} has texts {texts!r}; use none, optional or required")
    takes_sources = parent.takes_sources if takes_sources is None else takes_sources
    if takes_sources and not parent.takes_sources:
        raise ConfigError(f"register_model: {name} takes no sources; derive it from MetaRec or UniSRec")
    spec = replace(
        parent,
        name=name,
        model=model,
        trainer=trainer or parent.trainer,
        base=parent.base or parent.name,
        defaults={
            **parent.defaults,
            **(parent.beside if _scores_itself(model) else {}),
            **settings_of(model),
            **(defaults or {}),
        },
        takes_sources=takes_sources,
        texts=texts,
        ignores_padding=False,  # nobody has shown it of this one
        kind=kinds[0],
        reference="",
    )
    _REGISTERED[name] = spec
    return spec


def _check_methods(model: type, kind: str) -> None:
    """Raises ConfigError where a class lacks what a run would miss after an epoch."""
    for names in (("calculate_loss",), ("full_sort_predict", "predict")[: 1 + (kind == "general")]):
        if all(getattr(model, name).__qualname__.startswith("AbstractRecommender.") for name in names):
            absent = f"{model.__name__} has no {' and no '.join(names)}"
            raise ConfigError(f"register_model: {absent}; write it, as docs/tutorials/own-model.md does")


def known_as(model: type, reference: str) -> ModelSpec:
    """The spec of a class, which is registered now unless it has been, with where a user says that it is, or ""."""
    known = model_spec(model.__name__)
    if _path(known.model or "") != _path(model):
        known = register_model(model)
    if reference and known.is_own:
        known = _REGISTERED[known.name] = replace(known, reference=reference)
    return known


def _path(model: str | type) -> str:
    return model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"


def _ancestry(model: type) -> list[str]:
    return [_path(parent) for parent in model.__mro__]


def _parent(model: type) -> ModelSpec:
    """The nearest ancestor that is a model: a registered one, one of ours or of RecBole's; else an empty spec."""
    known = {_path(spec.model): spec for spec in (*SHIPPED_SPECS, *_REGISTERED.values()) if spec.model}
    for parent in model.__mro__[1:]:
        if _path(parent) in known:
            return known[_path(parent)]
        if parent.__module__.startswith(tuple(f"recbole.model.{kind}_recommender." for kind in KINDS)):
            return model_spec(parent.__name__)
    return ModelSpec("")


def _scores_itself(model: type) -> bool:
    """Whether a class, or what it inherits from users' classes, scores or loses in a way of its own."""
    theirs = (each for each in model.__mro__ if is_users(each.__module__))
    return any(_SCORING & vars(each).keys() for each in theirs)


def _known_to_others() -> set[str]:
    return {*SHIPPED_MODELS, *recbole_models()}


@cache
def _entry_points() -> dict:
    return {point.name: point for point in entry_points(group=GROUP)}


def model_spec(name: str) -> ModelSpec:
    """The facts about a model, by its name; bare ones for a model of RecBole's about which nothing is listed.

    An entry point is loaded here, when its model is asked for. Raises ConfigError for one that cannot be loaded or that
    names no model.
    """
    if name in _entry_points() and name not in _REGISTERED and name not in _known_to_others():
        _register_entry_point(name)
    return _REGISTERED.get(name) or _SPECS.get(name) or _recboles(name)


def _recboles(name: str) -> ModelSpec:
    return ModelSpec(name, kind="general" if name in recbole_models("general") else "sequential")


def _register_entry_point(name: str) -> None:
    point = _entry_points()[name]
    described = f"{name}: the entry point {point.value} of {GROUP}"
    try:
        loaded = point.load()
        if inspect.isclass(loaded):
            register_model(loaded)
        else:
            loaded()  # a function that calls register_model
    except Exception as error:  # somebody else's code, in which anything may happen
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ConfigError(f"{described} cannot be loaded ({what}); fix or uninstall that package") from error
    if name not in _REGISTERED:
        raise ConfigError(f"{described} registers no model of that name")


def our_models() -> tuple[str, ...]:
    """The models that are built on this package's, those of users with them; what entry points offer, unloaded."""
    registered = [spec.name for spec in _REGISTERED.values() if spec.is_ours]
    return tuple(dict.fromkeys([*SHIPPED_MODELS, *registered]))


def added_models() -> tuple[str, ...]:
    """The names that users have added, by :func:`register_model` or by an entry point."""
    return tuple(dict.fromkeys([*_REGISTERED, *_entry_points()]))


def loaded_models() -> tuple[str, ...]:
    """Those of :func:`added_models` that are registered by now."""
    return tuple(_REGISTERED)


def load_entry_points() -> list[ConfigError]:
    """Registers the models of all entry points; returns an error for each that has none to register."""
    errors = []
    for name in _entry_points():
        try:
            model_spec(name)
        except ConfigError as error:
            errors.append(error)
    return errors
