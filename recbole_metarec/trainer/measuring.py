"""What is measured for each source, in a step and over an epoch. Nothing here influences the training."""

import torch
from torch import Tensor

from recbole_metarec import processes
from recbole_metarec.model.quantizer import codebook_use
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.weighting import similarities

QUANTITIES = ("weight", "share", "entropy", "similarity_phi", "similarity_theta", "gain", "loss", "skipped")


class StepMeasurer:
    """Measures the sources in a meta step: for each name in QUANTITIES a float [M]."""

    def __init__(self, model, sources, settings):
        self.model, self.sources, self.settings = model, sources, settings

    def is_due(self, steps: int) -> bool:
        """Whether :meth:`of_trials` is due in the step that follows ``steps`` steps."""
        return steps % self.settings.diagnostics_every == 0

    def of_step(self, trials, weights, counted: Tensor, scores: dict[str, Tensor | None], rows) -> dict[str, Tensor]:
        """What every step knows anyway. counted: the factor of each source's share in the update, float [M].

        scores: float [M] by the point at which they were computed, "theta" or "phi". rows: index of the measured
        sources in ``weights``, ``counted`` and ``scores``.
        """
        measured = {f"similarity_{point}": value for point, value in scores.items() if value is not None}
        measured |= {"weight": weights.values, "share": counted, "skipped": ~weights.usable}
        measured["entropy"] = meta.entropy(weights.values).expand(len(counted))
        measured = {name: value[rows] for name, value in measured.items()}
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
    """Means over the steps of an epoch, of finite values only. The sums stay on the device: no step waits for a GPU."""

    def __init__(self):
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, measured: dict[str, Tensor]) -> None:
        """Adds a step. measured: name of a quantity -> float [M]; a step may lack a quantity."""
        self._steps += 1
        for name, value in measured.items():
            value = value.to(torch.float32)
            finite = value.isfinite()
            value = torch.where(finite, value, 0.0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts[name] + finite if name in self._counts else finite.to(torch.int64)

    def rows(self, epoch: int, names: list[str]) -> list[dict]:
        """One row per source: epoch, source, steps, and the mean of each measured quantity (skipped: the number of
        skipped steps). No row where nothing was measured, as in the target's epochs after pre-training."""
        if not self._sums:
            return []
        rows = [{"epoch": epoch, "source": name, "steps": self._steps} for name in names]
        for quantity in (q for q in QUANTITIES if q in self._sums):
            scale = 1 if quantity == "skipped" else self._counts[quantity].clamp(min=1)
            for row, value in zip(rows, (self._sums[quantity] / scale).tolist(), strict=True):
                row[quantity] = value
        return rows


def of_all_sources(rows: list[dict], names: list[str]) -> list[dict]:
    """The rows of all processes, in the order of ``names``. rows: those of this process's sources."""
    everywhere = [row for part in processes.gathered(rows) for row in part]
    return sorted(everywhere, key=lambda row: names.index(row["source"]))


def add_codebook_use(rows: list[dict], sources, model) -> None:
    """Adds to each source's row how its whole item table uses the codebook: see :class:`CodebookUse`."""
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
