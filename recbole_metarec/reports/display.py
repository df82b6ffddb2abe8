"""How figures are written, the same in every report."""

import math

from recbole_metarec.compare.leaderboard import Difference
from recbole_metarec.evaluation.intervals import Interval
from recbole_metarec.evaluation.significance import METRIC, Spread

NOTHING = "–"
METRIC_NAMES = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "hit": "Hit", "precision": "Precision", "map": "MAP"}


def metric_name(key: str) -> str:
    """``ndcg@10`` as people write it."""
    name, _, depth = key.partition("@")
    return f"{METRIC_NAMES.get(name, name)}@{depth}" if depth else METRIC_NAMES.get(name, name)


def metric_order(keys) -> list[str]:
    """What models are compared by first, the rest as they come."""
    return sorted(keys, key=lambda key: key != METRIC)


def score(value: float) -> str:
    """Four decimals, as the field prints them."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference: with its sign, and a real minus."""
    text = f"{value:+.4f}"
    return "0.0000" if text in ("+0.0000", "-0.0000") else text.replace("-", "−")


def mean_std(spread: Spread | None) -> str:
    """Mean ± deviation over seeds; one seed has none, which is said."""
    if spread is None:
        return NOTHING
    return f"{score(spread.mean)} ± {'n/a' if spread.std is None else score(spread.std)}"


def interval(found: Interval) -> str:
    """A level's interval; a single user has none."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return "n/a"
    return f"{score(found.low)}–{score(found.high)}"


def signed_interval(found: Interval) -> str:
    """A difference's interval."""
    return f"[{signed(found.low)}, {signed(found.high)}]"


def p_value(difference: Difference) -> str:
    """As :func:`probability`; where no draw contradicted, p is only known to be below."""
    text = probability(difference.p)
    return f"≤ {text}" if difference.certain and difference.p < 0.1 else text


def probability(p: float) -> str:
    """Two or three digits."""
    if p >= 0.1:
        return f"{p:.2f}"
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """In the unit that a reader would choose."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def amount(number: float) -> str:
    """A count, short: three digits and its thousands."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            scaled = number / size
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:.0f}{unit}"
    return f"{number:.0f}"
