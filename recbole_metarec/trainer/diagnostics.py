"""Signs that the transfer fails, of which the user is warned."""

import math
from dataclasses import dataclass
from itertools import pairwise

PATIENCE = 3  # epochs in a row in which a sign must show


@dataclass
class TransferMonitor:
    """Looks for these signs after each epoch, and tells each one once.

    uniform_wanted: whether even weights are what the user asked for. seen: name of a sign -> its sentence.
    """

    uniform_wanted: bool
    seen: dict[str, str]

    def check(self, rows: list[dict], history: list[dict]) -> list[str]:
        """Sentences for signs that show for the first time. rows: one per source of this epoch; history: of all."""
        signs = {**self._weights(rows), **self._overshoot(history), **self._codebook(rows, history)}
        skipped = [f"{row['source']} ({row['skipped']:.0f} of {row['steps']})" for row in rows if row.get("skipped")]
        if skipped:
            signs["skipped"] = f"steps of {', '.join(skipped)} were left out: not finite; lower inner_learning_rate"
        new = {name: text for name, text in signs.items() if name not in self.seen}
        self.seen |= new
        return list(new.values())

    def _weights(self, rows: list[dict]) -> dict[str, str]:
        weights = [row["weight"] for row in rows if "weight" in row]
        if len(weights) < 2 or self.uniform_wanted:
            return {}
        # the mean of the steps' entropies: sources that take turns have even mean weights, but are not uniform
        if rows[0]["entropy"] > 0.99 * math.log(len(weights)):
            return {"uniform": "source weights were nearly uniform for a whole epoch; lower temperature"}
        if max(weights) > 0.95:
            name = max(rows, key=lambda row: row.get("weight", 0.0))["source"]
            return {"collapsed": f"nearly all weight is on {name}; raise temperature to give the other sources more"}
        return {}

    def _overshoot(self, history: list[dict]) -> dict[str, str]:
        names = _persistently(history, lambda row: row.get("gain", 0.0) < 0 < row.get("similarity_theta", 0.0))
        if not names:
            return {}
        return {
            "overshoot": f"trial updates on {', '.join(names)} point the right way but go too far "
            "(gain below 0, similarity above); lower inner_learning_rate"
        }

    def _codebook(self, rows: list[dict], history: list[dict]) -> dict[str, str]:
        signs = {}
        collapsed = [row["source"] for row in rows if row.get("codebook_usage", 1.0) < 0.01]
        if collapsed:
            names = ", ".join(collapsed)
            signs["codebook"] = f"{names} use less than 1 % of the codes; raise codebook_weight or vq_heads"
        # relative: all vectors grow from their small initial values, and their distances with them
        errors = {name: [row["relative_error"] for row in history if row["source"] == name and "relative_error" in row]
                  for name in (row["source"] for row in rows)}  # fmt: skip
        rising = [name for name, values in errors.items() if _rises(values)]
        if rising:
            signs["error"] = f"quantization error of {', '.join(rising)} keeps rising; raise commitment_weight"
        return signs


def lost_sources(history: list[dict]) -> list[str]:
    """Sources of which no step was usable in any of the last PATIENCE epochs."""
    return _persistently(history, lambda row: 0 < row.get("skipped", 0) == row["steps"])


def _persistently(history: list[dict], holds) -> list[str]:
    """Sources whose rows ``holds`` is true of in each of the last PATIENCE epochs; a single epoch may be noise."""
    names = list(dict.fromkeys(row["source"] for row in history))
    recent = {name: [row for row in history if row["source"] == name][-PATIENCE:] for name in names}
    return [name for name, rows in recent.items() if len(rows) == PATIENCE and all(map(holds, rows))]


def _rises(values: list[float]) -> bool:
    recent = values[-PATIENCE - 1 :]
    grows = all(after > before for before, after in pairwise(recent))
    return len(recent) > PATIENCE and grows and recent[-1] > 1.5 * min(values)
