"""How sources are weighted, and how a step uses them.

A weighting answers three questions in each step: how well each source serves the target (``scores``), how much each may
therefore contribute (``weights``), and what the update is (``combined``). Between the first two, the meta step smooths
the scores over the steps. A user's own is a class derived from one of these, which ``gradient_rescaling`` names:
``my_transfer.py:MyWeighting``. One that ships is a class here, its name in WEIGHTINGS, and the same name in the kind of
that key in ``properties/model/MetaRec.yaml``; a test holds the two equal.
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
    """M sources to M weights, and to one update. It keeps nothing from step to step, so that a resumed run is the same.

    is_watched: whether weights that are even, or all on one source, are a failure that the user is warned of.
    scores_at: "theta" if the scores read the target's gradient before the trial updates, "phi" if they read it after
    them, None if there are none.
    """

    is_watched = True
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
    def weights(self, scores: Tensor, usable: Tensor, step: int) -> Tensor:
        """w, float [M]: of the smoothed scores [M]; 0 where not usable (bool [M]), else they sum to 1.

        step: how many steps with sources the run has done before.
        """

    def combined(self, counted: Tensor, gradients: Sequence[Tensors]) -> Tensors:
        """The gradient by which the shared parameters move: sum_i counted_i g_i.

        counted: float [M] on the CPU, what each source counts, 0 for one that is not usable and may hold anything.
        gradients: g_i of each, by parameter: the target's gradient after the trial update on it.
        """
        return meta.weighted_sum(counted, gradients)


class SimilarityWeighting(SourceWeighting):
    """w = softmax(s / tau), s_i = Sim(g_i, theta - phi_i) (MetaRec, section 4)."""

    def __init__(self, settings: TransferSettings):
        super().__init__(settings)
        self.scores_at = settings.similarity_at

    def scores(self, trials: Sequence[TrialUpdate], gradients: Sequence[Tensors]) -> Tensor:
        """Cosines between -1 and 1."""
        return similarities(trials, gradients, self.settings.compared(list(trials[0].moved)))

    def weights(self, scores: Tensor, usable: Tensor, step: int) -> Tensor:
        """Softmax over the usable sources; ``rescale_sign: paper`` prefers those that disagree."""
        sign = -1.0 if self.settings.rescale_sign == "paper" else 1.0
        return meta.source_weights(sign * scores, usable, self.settings.temperature)


class UniformWeighting(SourceWeighting):
    """w_i = 1 / M, with which other weightings are compared."""

    is_watched = False

    def weights(self, scores: Tensor, usable: Tensor, step: int) -> Tensor:
        """The same for every usable source."""
        return meta.source_weights(torch.zeros_like(scores), usable, 1.0)


WEIGHTINGS = {"similarity": SimilarityWeighting, "uniform": UniformWeighting}


def weighting_of(name: str) -> type[SourceWeighting]:
    """The class that ``gradient_rescaling`` names. Raises ConfigError for a user's that is none or cannot be loaded."""
    if name in WEIGHTINGS:
        return WEIGHTINGS[name]
    found = load_class(name, "gradient_rescaling")
    if not issubclass(found, SourceWeighting):
        raise ConfigError(f"gradient_rescaling: {name} is no SourceWeighting; derive it from SimilarityWeighting")
    return found


def similarities(trials: Sequence[TrialUpdate], gradients: Sequence[Tensors], names: Iterable[str]) -> Tensor:
    """Sim(gradient_i, theta - phi_i) of each source over the named parameters: float [M]."""
    pairs = zip(trials, gradients, strict=True)
    return torch.stack([meta.similarity(gradient, trial.moved, names) for trial, gradient in pairs])
