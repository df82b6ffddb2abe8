"""What is recorded of each source in each epoch, and the failures of transfer that are said aloud."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_metarec.model.quantizer import codebook_use

QUANTITIES = ("weight", "similarity_phi", "similarity_theta", "gain", "loss", "skipped")


class EpochRecord:
    """Means over the steps of an epoch, of what was finite, summed on the device: nothing here waits for a number."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, measured: dict[str, Tensor]) -> None:
        """measured: name of a quantity -> float [M] of one step; a quantity may be missing in a step."""
        for name, value in measured.items():
            value = value.to(torch.float32)
            finite = value.isfinite()
            value = torch.where(finite, value, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + finite if name in self._counts else finite.to(torch.int64)

    def rows(self, epoch: int, names: list[str]) -> list[dict]:
        """One row per source: epoch, source, and the mean of each quantity that was measured (skipped: the count)."""
        rows = [{"epoch": epoch, "source": name} for name in names]
        for quantity in (q for q in QUANTITIES if q in self._sums):
            scale = 1 if quantity == "skipped" else self._counts[quantity].clamp(min=1)
            for row, value in zip(rows, (self._sums[quantity] / scale).tolist(), strict=True):
                row[quantity] = value
        return rows


def add_codebook_use(rows: list[dict], sources, model) -> None:
    """Adds usage, perplexity, quantization error and collisions of each source's whole table to its row."""
    if not model.vq_heads:
        return
    for row, side in zip(rows, sources, strict=True):
        use = codebook_use(side.table.data[1:], model.item_embedding.weight.data, model.vq_heads, model.candidate_codes)
        row |= {
            "codebook_usage": use.usage,
            "perplexity": use.perplexity,
            "quantization_error": use.error,
            "collisions": use.collisions,
        }


@dataclass
class FailureSigns:
    """Watches the rows of each epoch; every sign is said once. seen: name of a sign -> the sentence."""

    uniform_wanted: bool
    seen: dict[str, str]

    def look(self, rows: list[dict], history: list[dict]) -> list[str]:
        """Sentences for signs that show for the first time: rows of this epoch, all rows so far."""
        found = {**self._weights(rows), **self._overshoot(rows), **self._codebook(rows, history)}
        skipped = [row["source"] for row in rows if row.get("skipped")]
        if skipped:
            found["skipped"] = f"steps of {', '.join(skipped)} were left out: not finite; lower inner_learning_rate"
        new = {name: text for name, text in found.items() if name not in self.seen}
        self.seen |= new
        return list(new.values())

    def _weights(self, rows: list[dict]) -> dict[str, str]:
        weights = [row["weight"] for row in rows if "weight" in row]
        if len(weights) < 2 or self.uniform_wanted:
            return {}
        entropy = -sum(w * math.log(w) for w in weights if w > 0)
        if entropy > 0.99 * math.log(len(weights)):
            return {"uniform": "source weights are as good as uniform for a whole epoch; lower temperature"}
        if max(weights) > 0.95:
            name = max(rows, key=lambda row: row.get("weight", 0.0))["source"]
            return {"collapsed": f"nearly all weight is on {name}; raise temperature to hear the other sources"}
        return {}

    def _overshoot(self, rows: list[dict]) -> dict[str, str]:
        names = [row["source"] for row in rows if row.get("gain", 0.0) < 0 < row.get("similarity_theta", 0.0)]
        if not names:
            return {}
        return {
            "overshoot": f"trial updates on {', '.join(names)} point the right way but go too far "
            "(gain below 0, similarity above); lower inner_learning_rate"
        }

    def _codebook(self, rows: list[dict], history: list[dict]) -> dict[str, str]:
        found = {}
        collapsed = [row["source"] for row in rows if row.get("codebook_usage", 1.0) < 0.01]
        if collapsed:
            found["codebook"] = (
                f"{', '.join(collapsed)} use less than 1 % of the codes; raise codebook_weight or vq_heads"
            )
        for row in rows:
            errors = [
                old["quantization_error"]
                for old in history
                if old["source"] == row["source"] and "quantization_error" in old
            ]
            if len(errors) > 3 and errors[-1] > errors[-2] > errors[-3] > errors[-4] and errors[-1] > 2 * min(errors):
                found["error"] = f"quantization error of {row['source']} keeps rising; raise commitment_weight"
        return found
