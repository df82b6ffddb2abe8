"""What a comparison reads of each run, whichever model it is and wherever it is stored."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class UnseenResult:
    """The figures of a run with each user's seen items removed from the ranking. Fields as in RunResult."""

    valid: dict[str, float]
    test: dict[str, float]
    test_ranks: np.ndarray
    guarded_test: dict[str, float] | None = None


@dataclass(frozen=True)
class RunResult:
    """One finished run of one model with one seed on the target. Only in ``unseen`` are seen items not ranked.

    model: the name in the table. seed: of initial weights and data order. valid, test: metrics by RecBole's names
    (``ndcg@10``), of the unguarded model. guarded_test: those of the model that the transfer guard deploys, None
    without a guard. test_users: str [R], tokens of the users with a test row; test_ranks: int [R], rank of each user's
    held-out item, 1 = best; valid_ranks: int [R], the same on validation, 0 for a user without a validation row.
    only_valid: token -> rank on validation of each user without a test row, which a split by time and eval_users can
    leave.
    seconds: of the whole run. peak_memory_mib: largest resident memory. parameters: how many the model has.
    unseen: the figures of the ranking without seen items. history: per epoch ``epoch``, ``train_loss``,
    ``valid_score`` and ``seconds``. command: repeats the run. trials: how many configurations were tried on validation
    to choose this one; 0 for the default configuration.
    """

    model: str
    seed: int
    valid: dict[str, float]
    test: dict[str, float]
    test_users: np.ndarray
    test_ranks: np.ndarray
    valid_ranks: np.ndarray
    seconds: float
    peak_memory_mib: float
    parameters: int
    command: str
    unseen: UnseenResult
    guarded_test: dict[str, float] | None = None
    history: list[dict] = field(default_factory=list)
    trials: int = 0
    only_valid: dict[str, int] = field(default_factory=dict)

    def among_unseen(self) -> "RunResult":
        """The same run with its figures replaced by those of the ranking without seen items."""
        return replace(self, **vars(self.unseen))


@dataclass(frozen=True)
class FailedRun:
    """A run that did not finish. error: why, in one line."""

    model: str
    seed: int
    error: str
    command: str
