"""What a comparison reads of each run, whoever trained it and wherever it was kept."""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class UnseenResult:
    """What a run has found with the items that a user has seen removed from the ranking: fields as in RunResult."""

    valid: dict[str, float]
    test: dict[str, float]
    test_ranks: np.ndarray
    guarded_test: dict[str, float] | None = None


@dataclass(frozen=True)
class RunResult:
    """One finished run of one model with one seed on the target. Seen items stay in the ranking, but for ``unseen``.

    model: the name in the table. seed: of initial weights and data order. valid, test: metrics by RecBole's names
    (``ndcg@10``), of the unguarded model. guarded_test: those of the model that the transfer guard deploys, None
    without a guard. test_users: str [R], tokens of the users that have a test row; test_ranks: int [R], rank of each
    one's held-out item, 1 = best; valid_ranks: int [R], the same on validation, 0 for a user without a validation row.
    only_valid: rank on validation of each user that has no test row, by token, as there are with a split by time.
    seconds: of the whole run. peak_memory_mib: resident memory at most.
    unseen: the same of the ranking without seen items. history: per epoch ``epoch``, ``train_loss``, ``valid_score``
    and ``seconds``. command: repeats the run.
    trials: how many configurations were tried on validation to find this one; 0 is the default configuration.
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
        """The same run with the figures of the ranking without seen items in their places."""
        return replace(self, **vars(self.unseen))


@dataclass(frozen=True)
class FailedRun:
    """A run that did not finish. error: its last words, one line."""

    model: str
    seed: int
    error: str
    command: str
