"""How sources are weighed. A new weighting is one more class here, its name in WEIGHTINGS, and the same name in
``one of: ...`` of the key ``gradient_rescaling`` in ``properties/model/MetaRec.yaml``; a test holds the two equal.
Another similarity under the same softmax is a subclass of :class:`SimilarityWeighting` with other ``scores``.

A weighting says how well each source serves the target in one step (scores) and what each may therefore contribute to
the update (weights). In between, the meta step smooths the scores over the steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.meta_step import Tensors, TrialUpdate
from recbole_metarec.trainer.transfer_state import TransferSettings


class SourceWeighting(ABC):
    """M sources to M weights.

    makes_scores: False if all sources weigh the same by intention, so that nobody warns of it. scores_at: "theta" if
    the scores read the target's gradient before the trial updates, "phi" if they read it after them, None if there are
    none.
    """

    makes_scores = True
    scores_at: str | None = None

    def __init__(self, settings: TransferSettings):
        self.settings = settings

    def scores(self, trials: Sequence[TrialUpdate], gradients: Sequence[Tensors]) -> Tensor:
        """s of one step, float [M]: the larger, the better.

        gradients: of the target's loss at ``scores_at``, one for each trial. At "theta" they hold the compared
        parameters alone (``similarity_over``), at "phi" all.
        """
        raise NotImplementedError

    @abstractmethod
    def weights(self, scores: Tensor, usable: Tensor) -> Tensor:
        """w, float [M]: of the smoothed scores [M]; 0 where not usable (bool [M]), else they sum to 1."""


class SimilarityWeighting(SourceWeighting):
    """w = softmax(s / tau), s_i = Sim(g_i, theta - phi_i) (MetaRec, section 4)."""

    def __init__(self, settings: TransferSettings):
        super().__init__(settings)
        self.scores_at = settings.similarity_at

    def scores(self, trials: Sequence[TrialUpdate], gradients: Sequence[Tensors]) -> Tensor:
        """Cosines between -1 and 1."""
        return similarities(trials, gradients, self.settings.compared(list(trials[0].moved)))

    def weights(self, scores: Tensor, usable: Tensor) -> Tensor:
        """Softmax over the usable sources; ``rescale_sign: paper`` prefers those that disagree."""
        sign = -1.0 if self.settings.rescale_sign == "paper" else 1.0
        return meta.source_weights(sign * scores, usable, self.settings.temperature)


class UniformWeighting(SourceWeighting):
    """w_i = 1 / M: what weighing is compared with."""

    makes_scores = False

    def weights(self, scores: Tensor, usable: Tensor) -> Tensor:
        """The same for every usable source."""
        return meta.source_weights(torch.zeros_like(scores), usable, 1.0)


WEIGHTINGS = {"similarity": SimilarityWeighting, "uniform": UniformWeighting}


def similarities(trials: Sequence[TrialUpdate], gradients: Sequence[Tensors], names: Iterable[str]) -> Tensor:
    """Sim(gradient_i, theta - phi_i) of each source over the named parameters: float [M]."""
    pairs = zip(trials, gradients, strict=True)
    return torch.stack([meta.similarity(gradient, trial.moved, names) for trial, gradient in pairs])
