"""What is measured of each source, in a step and over an epoch. Nothing here changes what is trained."""

import torch
from torch import Tensor

from recbole_metarec import processes
from recbole_metarec.model.quantizer import codebook_use
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.weighting import similarities

QUANTITIES = ("weight", "share", "entropy", "similarity_phi", "similarity_theta", "gain", "loss", "skipped")


class StepMeasurer:
    """Measures the sources in a meta step: each quantity is float [M], by its name in QUANTITIES."""

    def __init__(self, model, sources, settings):
        self.model, self.sources, self.settings = model, sources, settings

    def is_due(self, steps: int) -> bool:
        """Whether :meth:`of_trials` is called in the step after ``steps`` steps."""
        return steps % self.settings.diagnostics_every == 0

    def of_step(self, trials, weights, counted: Tensor, scores: dict[str, Tensor | None], own) -> dict[str, Tensor]:
        """What every step knows anyway. counted: what each share counts, float [M]. scores: by where they were made.

        own: numbers of the measured sources among those that ``weights``, ``counted`` and ``scores`` are of.
        """
        measured = {f"similarity_{point}": value for point, value in scores.items() if value is not None}
        measured |= {"weight": weights.values, "share": counted, "skipped": ~weights.usable}
        measured["entropy"] = meta.entropy(weights.values).expand(len(counted))
        measured = {name: value[own] for name, value in measured.items()}
        return measured | {"loss": torch.stack([trial.loss for trial in trials])}

    @torch.no_grad()
    def of_trials(self, parameters, trials, shares, outers, at_theta, streams) -> dict[str, Tensor]:
        """Both similarities of each source, and the gain L_tgt(theta) - L_tgt(phi) on the same share and masks."""
        gains = []
        for side, trial, share in zip(self.sources, trials, shares, strict=True):
            generator = streams("gain", side.name)
            before = generator.get_state()
            at_phi = self.model.target_loss(trial.phi, share, generator)
            generator.set_state(before)
            gains.append(self.model.target_loss(parameters, share, generator) - at_phi)
        names = self.settings.compared(list(parameters))
        return {
            "gain": torch.stack(gains),
            "similarity_phi": similarities(trials, [outer.gradient for outer in outers], names),
            "similarity_theta": similarities(trials, [at_theta.gradient] * len(trials), names),
        }


class EpochRecord:
    """Means over the steps of an epoch, of what was finite, summed on the device: nothing here waits for a number."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, measured: dict[str, Tensor]) -> None:
        """measured: name of a quantity -> float [M] of one step; a quantity may be missing in a step."""
        self._steps += 1
        for name, value in measured.items():
            value = value.to(torch.float32)
            finite = value.isfinite()
            value = torch.where(finite, value, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + finite if name in self._counts else finite.to(torch.int64)

    def rows(self, epoch: int, names: list[str]) -> list[dict]:
        """One row per source: epoch, source, steps, and the mean of each quantity that was measured (skipped: the count
        of steps that were). None where nothing was measured, as in the target's epochs after pre-training."""
        if not self._sums:
            return []
        rows = [{"epoch": epoch, "source": name, "steps": self._steps} for name in names]
        for quantity in (q for q in QUANTITIES if q in self._sums):
            scale = 1 if quantity == "skipped" else self._counts[quantity].clamp(min=1)
            for row, value in zip(rows, (self._sums[quantity] / scale).tolist(), strict=True):
                row[quantity] = value
        return rows


def of_all_sources(rows: list[dict], names: list[str]) -> list[dict]:
    """The rows of all processes, in the order of the sources' names; each gives those of its own sources."""
    everywhere = [row for part in processes.gathered(rows) for row in part]
    return sorted(everywhere, key=lambda row: names.index(row["source"]))


def add_codebook_use(rows: list[dict], sources, model) -> None:
    """Adds usage, perplexity, quantization error and collisions of each source's whole table to its row."""
    if not model.vq_heads:
        return
    weights = {name: value.detach() for name, value in model.named_parameters()}
    codebook = model.item_table(weights)
    for row, side in zip(rows, sources, strict=True):
        vectors = model.source_table(weights, side.items).detach()[1:]
        use = codebook_use(vectors, codebook, model.vq_heads, model.candidate_codes)
        row |= {
            "codebook_usage": use.usage,
            "perplexity": use.perplexity,
            "quantization_error": use.error,
            "relative_error": use.error / float(vectors.square().mean()),
            "collisions": use.collisions,
        }
