"""A leaderboard that nobody measured: eight models of known quality, for tests and for looking at the pages."""

import numpy as np

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from support.ndcg import ndcg_at

from recbole_metarec.compare.leaderboard import Comparison, Protocol, compare_both
from recbole_metarec.evaluation.results import FailedRun, RunResult, UnseenResult
from recbole_metarec.evaluation.segments import segments

BASELINES = ("Pop", "GRU4Rec", "SASRec", "BERT4Rec", "LRURec", "FDSA")
# name: (skill, seconds, MiB, parameters, epochs)
MODELS = {
    "Pop": (-1.1, 1.1, 640, 0, 1),
    "GRU4Rec": (-0.35, 412, 910, 391_000, 34),
    "BERT4Rec": (-0.5, 1290, 1180, 402_000, 61),
    "SASRec": (0.0, 655, 1010, 388_000, 42),
    "FDSA": (0.02, 1710, 1460, 705_000, 38),
    "LRURec": (0.12, 96, 780, 372_000, 29),
    "UniSRec": (0.3, 940, 1930, 2_110_000, 47),
    "MetaRec": (0.33, 388, 1240, 1_020_000, 40),
}
PROTOCOL = Protocol(
    dataset="Simulated-Scientific",
    users=2000,
    items=4385,
    interactions=14210,
    split="leave-one-out in time order, whole catalogue ranked",
    metric="NDCG@10 on validation chooses, test is looked at once",
    max_length=50,
    width=64,
    early_stopping="10 epochs without a better validation, at most 200",
)


def made_up_run(model: str, seed: int, users: int = 2000, trials: int = 20) -> RunResult:
    """One run; the same user is as hard for every model, and models agree less the more their skill differs."""
    skill, seconds, memory, parameters, epochs = MODELS[model]
    shared = np.random.default_rng(1).gumbel(4.3, 2.1, users)
    own = np.random.default_rng([seed, *model.encode()])
    skill += own.normal(0, 0.03)
    ranks = {}
    for part in ("valid", "test"):
        noise = np.random.default_rng([2, *model.encode()]).normal(0, 0.5, users) + own.normal(0, 0.4, users)
        ranks[part] = np.clip(np.exp(shared - skill + noise), 1, 4385).astype(np.int64)
        # the more items are ranked before the held-out one, the more of them the user may have seen
        seen = np.random.default_rng([3, seed, *model.encode()])
        ranks[f"{part}_unseen"] = ranks[part] - seen.integers(0, np.minimum(ranks[part], 8))
    metrics = {part: _metrics(found) for part, found in ranks.items()}
    history = [
        {
            "epoch": epoch,
            "train_loss": 5 + 3 * np.exp(-epoch / 8) + own.normal(0, 0.02),
            "valid_score": metrics["valid"]["ndcg@10"] * (1 - 0.9 * np.exp(-(epoch + 1) / 6)) + own.normal(0, 0.0006),
            "seconds": seconds / epochs,
        }
        for epoch in range(epochs + seed % 3 * 4)
    ]
    order = own.permutation(users)
    tokens = np.array([f"u{user}" for user in range(users)])
    return RunResult(
        model=model,
        seed=seed,
        valid=metrics["valid"],
        test=metrics["test"],
        test_users=tokens[order],
        test_ranks=ranks["test"][order],
        valid_ranks=ranks["valid"][order],
        seconds=seconds * own.uniform(0.9, 1.1),
        peak_memory_mib=memory * own.uniform(0.98, 1.02),
        parameters=parameters,
        command=f"recbole-metarec train --model {model} --dataset Simulated-Scientific --seed={seed} --epochs=200",
        unseen=UnseenResult(
            metrics["valid_unseen"],
            metrics["test_unseen"],
            ranks["test_unseen"][order],
            metrics["test_unseen"] if model == "MetaRec" else None,
        ),
        guarded_test=metrics["test"] if model == "MetaRec" else None,
        history=history if model != "Pop" else [],
        trials={"Pop": 0, "GRU4Rec": 5}.get(model, trials),
    )


def _metrics(ranks: np.ndarray) -> dict[str, float]:
    found = {f"recall@{k}": float(np.mean(ranks <= k)) for k in (10, 50)}
    found |= {f"ndcg@{k}": float(ndcg_at(ranks, k).mean()) for k in (10, 50)}
    found |= {f"mrr@{k}": float(np.where(ranks <= k, 1 / ranks, 0).mean()) for k in (10, 50)}
    return {name: round(value, 4) for name, value in found.items()}


def made_up_comparison(*given, **named) -> Comparison:
    """The first of :func:`made_up_comparisons`."""
    return made_up_comparisons(*given, **named)[0]


def made_up_comparisons(
    rename: dict[str, str] | None = None, users: int = 2000, seeds: int = 3
) -> tuple[Comparison, Comparison]:
    """Both protocols of eight models, one of them with a failed run; ``rename`` gives models other names."""
    rename = rename or {}
    runs = [made_up_run(model, seed, users) for model in MODELS for seed in range(2020, 2020 + seeds)]
    runs = [run for run in runs if (run.model, run.seed) != ("FDSA", 2022)]
    runs = [RunResult(**{**vars(run), "model": rename.get(run.model, run.model)}) for run in runs]
    failed = FailedRun("FDSA", 2022, "CUDA out of memory: tried to allocate 2.00 GiB", "recbole-metarec train ...")
    rng = np.random.default_rng(3)
    counts = np.concatenate([[0], rng.zipf(1.6, 4384).clip(0, 400)])
    groups = segments(3 + rng.geometric(0.3, users) - 1, counts, rng.integers(1, 4385, users))
    tokens = np.array([f"u{user}" for user in range(users)])
    return compare_both(runs, PROTOCOL, tuple(rename.get(name, name) for name in BASELINES), [failed], groups, tokens)
