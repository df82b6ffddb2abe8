"""The models that a leaderboard knows: what each name means, and what it needs."""

from dataclasses import dataclass, field
from pathlib import Path

from recbole_metarec.config.recbole_files import recbole_models
from recbole_metarec.config.schema import OUR_MODELS, keys_in, keys_read_by
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.errors import ConfigError, DataError

POPULARITY = "Pop"
WITHOUT_TRANSFER = "LRURec"  # the model that MetaRec's guard trains: the same backbone, seed and data order


@dataclass(frozen=True)
class Competitor:
    """One line of the leaderboard.

    name: as shown. experiment: the model that is trained. overrides: config keys that make it what its name says.
    is_baseline: whether others are held against it. needs_text: whether it reads the target's ``.item`` file.
    uses_sources: whether it reads source domains. guarded: whether MetaRec's transfer guard would have deployed
    LRURec in its place. width: the key of d, the width of its item vectors. attribute: the key that names the columns
    of the ``.item`` file, for RecBole's models of item attributes.
    """

    name: str
    experiment: str
    overrides: dict = field(default_factory=dict)
    is_baseline: bool = True
    needs_text: bool = False
    uses_sources: bool = False
    guarded: bool = False
    width: str = "embedding_size"
    attribute: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is a model of this package."""
        return self.experiment in OUR_MODELS


def _transfer(name: str, way: str, is_baseline: bool) -> Competitor:
    # the guard is worked out afterwards, from LRURec's own run: it would be the same training once more
    how = {"meta_transfer": way, "transfer_guard": False}
    return Competitor(name, "MetaRec", how, is_baseline, uses_sources=True, guarded=True)


_TABLE = (
    Competitor(POPULARITY, POPULARITY),
    Competitor("GRU4Rec", "GRU4Rec"),
    Competitor("SASRec", "SASRec", width="hidden_size"),
    Competitor("BERT4Rec", "BERT4Rec", width="hidden_size"),
    Competitor("FDSA", "FDSA", needs_text=True, width="hidden_size", attribute="selected_features"),
    Competitor("S3Rec", "S3Rec", needs_text=True, width="hidden_size", attribute="item_attribute"),
    Competitor("LRURec", "LRURec"),
    Competitor("UniSRec", "UniSRec", needs_text=True, uses_sources=True),
    Competitor("UniSRec-text", "UniSRec", {"item_vectors": "text"}, needs_text=True, uses_sources=True),
    _transfer("Joint", "joint", is_baseline=True),
    _transfer("Pretrain", "pretrain", is_baseline=True),
    _transfer("MetaRec", "meta", is_baseline=False),
    Competitor("LRURec-text", "LRURec", {"text_alignment": True}, needs_text=True),
    Competitor(
        "MetaRec-text",
        "MetaRec",
        {"meta_transfer": "meta", "transfer_guard": False, "text_alignment": True},
        is_baseline=False,
        needs_text=True,
        uses_sources=True,
    ),
)
COMPETITORS = {c.name: c for c in _TABLE if c.experiment != "UniSRec" or c.is_ours}
DEFAULT_MODELS = tuple(
    name for name in (POPULARITY, "GRU4Rec", "SASRec", "LRURec", "UniSRec", "MetaRec") if name in COMPETITORS
)
# Keys by which the lines above differ: a value for every model would make one line another.
SET_BY_NAME = keys_in("by_name")


def default_models(has_text: bool) -> list[Competitor]:
    """The lines of a comparison for which no models were named. has_text: whether the target has an ``.item`` file."""
    return [COMPETITORS[name] for name in DEFAULT_MODELS if has_text or not COMPETITORS[name].needs_text]


def competitors(names: list[str], where: str = "--models") -> list[Competitor]:
    """The lines of these names; a sequential model of RecBole that has none stands for itself.

    Raises ConfigError, with the nearest name, for an unknown name, one given twice, or none at all.
    """
    found, theirs = [], recbole_models("sequential")
    for name in names:
        if not name:
            raise ConfigError(f"{where}: an empty name; give names such as SASRec,LRURec,MetaRec")
        if names.count(name) > 1:
            raise ConfigError(f"{where}: {name} is given twice; name each model once")
        if name not in COMPETITORS and name not in theirs:
            guess = nearest(name, [*COMPETITORS, *theirs])
            advice = f"did you mean {guess}?" if guess else f"the models are {', '.join(COMPETITORS)}"
            raise ConfigError(f"{where}: unknown model {name}; {advice}")
        found.append(COMPETITORS.get(name) or Competitor(name, name, width=_width_key(name)))
    if not found:
        raise ConfigError(f"{where}: no model; give names such as SASRec,LRURec,MetaRec")
    return found


def _width_key(model: str) -> str:
    """The key of d in one of RecBole's models: some call it embedding_size, the Transformers hidden_size."""
    read = keys_read_by(model)
    return "embedding_size" if "embedding_size" in read or "hidden_size" not in read else "hidden_size"


def text_columns(item_file: Path) -> list[str]:
    """Columns of an ``.item`` file that hold several words, else those that hold one, the item's own name aside.

    Raises DataError if there is no such file or column.
    """
    try:
        with open(item_file, encoding="utf-8") as file:
            head = [column.rpartition(":") for column in file.readline().rstrip("\r\n").split("\t")]
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{item_file}: there is no such file in UTF-8, so items have no text or attribute") from None
    for kind in ("token_seq", "token"):
        names = [name for name, _, own in head if own == kind and name != "item_id"]
        if names:
            return names
    raise DataError(f"{item_file}:1: no column of type token_seq or token beside item_id; add one")
