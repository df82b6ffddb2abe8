"""How sources are weighted, and how the weights enter a step.

A weighting answers three questions in each step: how well each source serves the target (``scores``), how much each may
therefore contribute (``weights``), and what the update is (``combined``). Between the first two, the meta step smooths
the scores over the steps.

To use your own, derive a class from one of these and name it in ``gradient_rescaling``: ``my_transfer.py:MyWeighting``.
To ship one, add a class here, its name to WEIGHTINGS, and the same name to the type of that key in
``properties/model/MetaRec.yaml``; a test keeps the two equal.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from recbole_metarec.config.own_models import load_class
from recbole_metarec.errors import ConfigError
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.meta_step import Tensors, TrialUpdate
from recbole_metarec.trainer.transfer_state import TransferSettings


class SourceWeighting(ABC):
    """Turns M sources into M weights and one update. It keeps no state, so that a resumed run gives the same result.

    is_watched: whether to warn the user of weights that are even, or all on one source.
    scores_at: "theta" if the scores use the target's gradient before the trial updates, "phi" if they use it after
    them, None if there are no scores.
    """

    is_watched = True
    scores_at: str | None = None

    def __init__(self, settings: TransferSettings):
        self.settings = settings

    def scores(self, trials: Sequence[TrialUpdate], gradients: Sequence[Tensors]) -> Tensor:
        """The scores s of one step, float [M]; larger is better.

        trials: one per source. gradients: of the target's loss at ``scores_at``, one per trial. At "theta" they hold
        only the compared parameters (``similarity_over``), at "phi" all.
        """
        raise NotImplementedError

    @abstractmethod
    def weights(self, scores: Tensor, usable: Tensor, step: int) -> Tensor:
        """The weights w, float [M], from the smoothed scores, float [M].

        They must be 0 for sources that are not usable (bool [M]), and sum to 1 over the others. step: how many steps
        with sources the run has done before.
        """

    def combined(self, counted: Tensor, gradients: Sequence[Tensors]) -> Tensors:
        """The gradient by which the shared parameters move: sum_i counted_i g_i.

        counted: factor of each source, float [M] on the CPU; 0 for one that is not usable, whose gradient may hold
        anything. gradients: g_i of each source, by parameter: the target's gradient after the trial update on it.
        """
        return meta.weighted_sum(counted, gradients)


class SimilarityWeighting(SourceWeighting):
    """w = softmax(s / tau), s_i = Sim(g_i, theta - phi_i) (MetaRec, section 4)."""

    def __init__(self, settings: TransferSettings):
        super().__init__(settings)
        self.scores_at = settings.similarity_at

    def scores(self, trials: Sequence[TrialUpdate], gradients: Sequence[Tensors]) -> Tensor:
        """Cosines between -1 and 1, float [M]."""
        return similarities(trials, gradients, self.settings.compared(list(trials[0].moved)))

    def weights(self, scores: Tensor, usable: Tensor, step: int) -> Tensor:
        """Softmax over the usable sources, float [M]; ``rescale_sign: paper`` prefers those that disagree."""
        sign = -1.0 if self.settings.rescale_sign == "paper" else 1.0
        return meta.source_weights(sign * scores, usable, self.settings.temperature)


class UniformWeighting(SourceWeighting):
    """w_i = 1 / M: the baseline for other weightings."""

    is_watched = False

    def weights(self, scores: Tensor, usable: Tensor, step: int) -> Tensor:
        """The same for every usable source."""
        return meta.source_weights(torch.zeros_like(scores), usable, 1.0)


WEIGHTINGS = {"similarity": SimilarityWeighting, "uniform": UniformWeighting}


def weighting_of(name: str) -> type[SourceWeighting]:
    """The class that ``gradient_rescaling`` names. Raises ConfigError if it does not load or is no SourceWeighting."""
    if name in WEIGHTINGS:
        return WEIGHTINGS[name]
    weighting = load_class(name, "gradient_rescaling")
    if not issubclass(weighting, SourceWeighting):
        raise ConfigError(f"gradient_rescaling: {name} is no SourceWeighting; derive it from SimilarityWeighting")
    return weighting


def similarities(trials: Sequence[TrialUpdate], gradients: Sequence[Tensors], names: Iterable[str]) -> Tensor:
    """Sim(gradient_i, theta - phi_i) of each source over the named parameters: float [M]."""
    pairs = zip(trials, gradients, strict=True)
    return torch.stack([meta.similarity(gradient, trial.moved, names) for trial, gradient in pairs])
