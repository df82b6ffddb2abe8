"""The lines of a leaderboard: what each name means, and what it needs."""

from dataclasses import dataclass, field, replace

from recbole_metarec.config.model_names import comparable_models, model_name
from recbole_metarec.config.models import ModelSpec, added_models, model_spec, our_models
from recbole_metarec.config.schema import common_keys, key_reference
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError


@dataclass(frozen=True)
class Competitor:
    """One line of the leaderboard: a model with the config keys that make it what its name says.

    name: as shown. spec: of the model that is trained. overrides: these config keys.
    is_baseline: whether other models are compared with it.
    """

    name: str
    spec: ModelSpec
    overrides: dict = field(default_factory=dict)
    is_baseline: bool = True

    @property
    def experiment(self) -> str:
        """The name of the model that is trained."""
        return self.spec.name

    @property
    def typed(self) -> str:
        """What a user types for it in ``--models``."""
        return self.spec.reference or self.name

    @property
    def needs_text(self) -> bool:
        """Whether it reads the target's ``.item`` file."""
        return bool(self.spec.requires_texts or self.spec.attribute_key or self.overrides.get("text_alignment"))

    @property
    def is_tunable(self) -> bool:
        """Whether there is a key to tune: a fitted model has one only if it has keys of its own."""
        return not self.spec.is_fitted or key_reference(self.experiment).keys() > common_keys()

    @property
    def guarded(self) -> bool:
        """Whether the transfer guard can be computed for it afterwards, from the runs of the line without transfer.

        Not for a user's subclass, which may differ from that line in more than transfer.
        """
        return bool(self.spec.without_transfer) and self.spec.name == self.spec.base


def _line(name: str, model: str | None = None, is_baseline: bool = True, **overrides) -> Competitor:
    spec = model_spec(model or name)
    line = Competitor(name, spec, overrides, is_baseline and not spec.is_own)
    # the guard is computed afterwards from the other line's run: to run it here would repeat the same training
    return replace(line, overrides={**overrides, "transfer_guard": False}) if line.guarded else line


_PLAIN = {"seen_offset": False, "item_memory": False}  # the models as they were published

_TABLE = (
    _line("Pop", "SequentialPop"),
    _line("ItemKNN", "SequentialItemKNN"),
    _line("ItemKNNDecay"),
    _line("EASE", "SequentialEASE"),
    _line("EASEDecay"),
    _line("STAN"),
    _line("SLIST"),
    _line("TextKNN"),
    _line("GRU4Rec"),
    _line("SASRec"),
    _line("BERT4Rec"),
    _line("FDSA"),
    _line("S3Rec"),
    _line("LRURec"),
    _line("LRURec-plain", "LRURec", **_PLAIN),
    _line("UniSRec"),
    _line("UniSRec-text", "UniSRec", item_vectors="text"),
    _line("Joint", "MetaRec", meta_transfer="joint"),
    _line("Pretrain", "MetaRec", meta_transfer="pretrain"),
    _line("MetaRec", is_baseline=False, meta_transfer="meta"),
    _line("MetaRec-plain", "MetaRec", is_baseline=False, meta_transfer="meta", **_PLAIN),
    _line("LRURec-text", "LRURec", text_alignment=True),
    _line("MetaRec-text", "MetaRec", is_baseline=False, meta_transfer="meta", text_alignment=True),
)
COMPETITORS = {line.name: line for line in _TABLE}
DEFAULT_MODELS = (
    *(line.name for line in _TABLE if line.spec.is_fitted),
    *("GRU4Rec", "SASRec", "LRURec-plain", "LRURec", "UniSRec", "MetaRec-plain", "MetaRec"),
)


def default_models(has_text: bool) -> list[Competitor]:
    """The lines of a comparison for which no models were named. has_text: whether the target has an ``.item`` file."""
    return [COMPETITORS[name] for name in DEFAULT_MODELS if has_text or not COMPETITORS[name].needs_text]


def competitors(names: list[str], where: str = "--models") -> list[Competitor]:
    """The lines with these names. A registered model, one of RecBole's or a user's class that is no line gets its own.

    Raises ConfigError, with the nearest name, for an unknown name, one given twice, or none at all.
    """
    names = [model_name(name, where) for name in names]
    others = [*our_models(), *added_models(), *comparable_models()]
    for name in names:
        if not name:
            raise ConfigError(f"{where}: an empty name; give names such as SASRec,LRURec,MetaRec")
        if names.count(name) > 1:
            raise ConfigError(f"{where}: {name} is given twice; name each model once")
        if name not in COMPETITORS and name not in others:
            guess = nearest(name, [*COMPETITORS, *others])
            advice = f"did you mean {guess}?" if guess else f"the models are {', '.join(COMPETITORS)}"
            raise ConfigError(f"{where}: unknown model {name}; {advice}")
    if not names:
        raise ConfigError(f"{where}: no model; give names such as SASRec,LRURec,MetaRec")
    return [COMPETITORS.get(name) or _line(name) for name in names]
