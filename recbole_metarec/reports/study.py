"""A study's table in the terminal, as Markdown and as CSV, and its figure.

A new column of the table is one more line in :func:`arm_columns`: every report then has it.
"""

from collections.abc import Callable
from pathlib import Path

from recbole_metarec.compare.findings import SEEDS, Contrast, Findings
from recbole_metarec.compare.leaderboard import Protocol
from recbole_metarec.compare.settings import meaning
from recbole_metarec.evaluation.transfer_guard import RULE
from recbole_metarec.files import write_atomically
from recbole_metarec.reports.figures import study_figure
from recbole_metarec.reports.leaderboard import P_VALUE, RUN_SEEDS
from recbole_metarec.tables import (
    COUNT,
    DIFFERENCE,
    INTERVAL,
    MEAN_STD,
    PERCENT,
    PLAIN,
    PROBABILITY,
    SCORE,
    SECONDS,
    Column,
    Format,
    Table,
    code_block,
    csv_text,
    escaped,
)

_REMEDY = "free some space or choose another --output"
_OVER_SEEDS = "‡"
_UNSEEN = "(seen removed)"
_CONTRAST = Format(
    lambda contrast: DIFFERENCE.text(contrast.difference.interval),
    lambda contrast: DIFFERENCE.detail(contrast.difference.interval) + _OVER_SEEDS * (contrast.over == SEEDS),
    {ending: lambda contrast, take=take: take(contrast.difference.interval)
     for ending, take in DIFFERENCE.values.items()},
)  # fmt: skip
_GUARD = Format(
    lambda fired: f"{fired[0]} of {fired[1]} fired",
    values={"_fired": lambda fired: fired[0], "_known": lambda fired: fired[1]},
)


def arm_columns(findings: Findings, protocol: Protocol) -> tuple[Column, ...]:
    """What every report shows of an arm: an ArmFindings."""
    study, swept, metric = findings.study, findings.study.kind == "sweep", findings.study.metric
    differs = (
        Column(study.key, lambda arm: arm.arm.value or "any", Format(), left=True),
        Column("model", lambda arm: arm.arm.model, name="model", left=True),
        Column("data", lambda arm: arm.arm.detail or None, left=True, terminal="none"),
    )
    if not swept:
        differs = (
            Column("variant", lambda arm: arm.arm.name, left=True),
            Column(None, lambda arm: arm.arm.model, name="model"),
            Column("what differs", lambda arm: arm.arm.detail or None, name="changes", left=True, terminal="none"),
        )
    return (
        Column(None, lambda arm: study.name, name="experiment"),
        Column(None, lambda arm: protocol.simulated, name="simulated"),
        Column(None, lambda arm: "+".join(dict.fromkeys(run.dataset for run in arm.arm.runs)), name="dataset"),
        Column(None, lambda arm: "+".join(arm.arm.runs[0].sources), name="sources"),
        *differs,
        *([Column(None, lambda arm: arm.arm.value, name=study.key)] if swept else []),
        Column("seeds", lambda arm: arm.rows, RUN_SEEDS, "seeds"),
        Column("users", lambda arm: arm.users, COUNT, "users"),
        Column(f"{metric.label} test", lambda arm: arm.test, MEAN_STD, f"test_{metric.key}"),
        Column("valid", lambda arm: arm.valid, MEAN_STD, f"valid_{metric.key}"),
        Column(None, lambda arm: arm.level, INTERVAL, f"test_{metric.key}"),
        *(column for number, name in enumerate(study.columns) for column in _contrast_columns(name, number)),
        Column(f"{metric.label} {_UNSEEN}", lambda arm: arm.unseen.test, MEAN_STD, f"test_unseen_{metric.key}"),
        *(column for number, name in enumerate(study.columns) for column in _unseen_columns(name, number)),
        Column("guard", lambda arm: arm.fired if arm.fired[1] else None, _GUARD, "guard"),
        Column("time", lambda arm: arm.seconds, SECONDS, "seconds"),
    )


def _contrast_columns(name: str, number: int) -> list[Column]:
    """What is shown of the differences to one reference."""

    def of(take: Callable[[Contrast], object]) -> Callable:
        return lambda arm: arm.contrasts[number] and take(arm.contrasts[number])

    return [
        Column(f"Δ to {name}, 95 %", of(lambda contrast: contrast), _CONTRAST, f"to_{name}"),
        Column("%", of(lambda contrast: contrast.relative), PERCENT, f"to_{name}_relative"),
        Column("p", of(lambda contrast: contrast.difference), P_VALUE, f"to_{name}_p_holm"),
        Column("p over seeds", of(lambda contrast: contrast.p_seeds), PROBABILITY, f"to_{name}_p_seeds_holm"),
        Column(None, of(lambda contrast: contrast.over), PLAIN, f"to_{name}_over"),
    ]


def _unseen_columns(name: str, number: int) -> list[Column]:
    """What is shown of the differences to one reference where seen items are removed."""

    def of(take: Callable[[Contrast], object]) -> Callable:
        return lambda arm: arm.unseen.contrasts[number] and take(arm.unseen.contrasts[number])

    return [
        Column(
            f"Δ to {name} {_UNSEEN}", of(lambda contrast: contrast), _CONTRAST, f"unseen_to_{name}", terminal="brief"
        ),
        Column("p", of(lambda contrast: contrast.difference), P_VALUE, f"unseen_to_{name}_p_holm"),
    ]


def arms_table(findings: Findings, protocol: Protocol) -> Table:
    """One line per arm."""
    return Table(arm_columns(findings, protocol), findings.arms, "", protocol.line, notes(findings))


def _runs_table(findings: Findings) -> Table:
    metric = findings.study.metric.label
    columns = (
        Column("Arm", lambda run: run[0].name, left=True),
        Column("Seed", lambda run: run[1].seed),
        Column(f"{metric} valid", lambda run: run[1].valid, SCORE),
        Column(f"{metric} test", lambda run: run[1].test, SCORE),
        Column("Best epoch", lambda run: run[1].best_epoch),
        Column("Guard", lambda run: run[1].guard or None, left=True),
        Column("Time", lambda run: run[1].seconds, SECONDS),
    )
    return Table(columns, tuple((arm.arm, row) for arm in findings.arms for row in arm.rows), "Runs")


def write_reports(findings: Findings, protocol: Protocol, command: str, folder: Path) -> tuple[Path, ...]:
    """Writes KIND.md, KIND.csv and KIND.png into ``folder``, which must exist; each is replaced as a whole.

    command: repeats the study. Raises DataError if a file cannot be written.
    """
    kind = findings.study.kind
    contents = {"md": markdown(findings, protocol, command).encode(), "csv": table_csv(findings, protocol).encode()}
    if any(arm.test for arm in findings.arms):
        contents["png"] = study_figure(findings, protocol)
    return tuple(
        write_atomically(Path(folder) / f"{kind}.{ending}", [content], _REMEDY) for ending, content in contents.items()
    )


def title(findings: Findings) -> str:
    """What was done, in one line."""
    study = findings.study
    what = f"Sweep of {study.key}" if study.kind == "sweep" else "Ablation"
    return f"{what} on {study.dataset}"


def terminal_table(findings: Findings, protocol: Protocol) -> str:
    """What the command prints in the end."""
    return "\n".join([arms_table(findings, protocol).terminal(), *_failed(findings)])


def markdown(findings: Findings, protocol: Protocol, command: str) -> str:
    """The whole study as GitHub's Markdown."""
    name = escaped(title(findings))
    parts = [f"# {name}", code_block([command]), arms_table(findings, protocol).markdown()]
    if any(arm.test for arm in findings.arms):
        parts.append(f"![{name}]({findings.study.kind}.png)")
    if failed := _failed(findings):
        parts += ["## Failed runs", "\n".join(f"- {escaped(line)}" for line in failed)]
    commands = dict.fromkeys(row.command for arm in findings.arms for row in arm.rows)
    parts += [_runs_table(findings).markdown(), "## Commands", code_block(commands)]
    return "\n\n".join(parts) + "\n"


def table_csv(findings: Findings, protocol: Protocol) -> str:
    """One line per arm, unrounded; what a line does not have is empty."""
    return csv_text(arms_table(findings, protocol).records())


def notes(findings: Findings) -> tuple[str, ...]:
    """What a reader must know to read the table, a sentence or two each."""
    study, metric = findings.study, findings.study.metric.label
    sentences = [f"{metric}: mean ± standard deviation over seeds (n/a: one seed has none), of the unguarded model."]
    if study.kind == "sweep":
        sentences.append(f"{study.key}: {meaning(study.key)}")
        if len({arm.arm.runs[0].dataset for arm in findings.arms}) > 1:
            sentences.append("Each share of users is another target with other test users: compare within one share.")
    if all(run.config.get("text_alignment") for arm in study.arms for run in arm.runs):
        sentences.append("Every model, LRURec included, also reads item texts (text_alignment).")
    if any(len({run.dataset for run in arm.runs}) > 1 for arm in study.arms):
        sentences.append(
            "Each seed uses a different subsample, disjoint where possible: the users of all of them are pooled, and ± "
            "is over subsamples, too. The statistics above are of the whole domain."
        )
    counts = [sum(arm.contrasts[n] is not None for arm in findings.arms) for n in range(len(study.columns))]
    sentences.append(
        "Δ: mean difference over the seeds that both have, with its 95 % interval (paired bootstrap over test users of "
        f"{metric} averaged over seeds), not corrected; %: relative to the other's mean; p: Holm-corrected over the "
        f"{max(counts, default=0)} differences of a column. It asks whether other users would show the same; p over "
        "seeds (paired t over the seeds' differences, corrected alike) whether other seeds would, or other subsamples "
        "where each seed uses its own."
    )
    sentences.append(
        f"{_UNSEEN}: {metric} of the same scores with the items that a user has seen removed from the ranking; its p "
        "is corrected alike, for itself. Everything else is with seen items kept, RecBole's protocol."
    )
    if findings.over_seeds:
        sentences.append(f"{_OVER_SEEDS} over seeds (paired t): runs without ranks, so that users could not be paired.")
    trials = _trials(findings)
    sentences.append(f"All arms have the same data, split, most epochs, early stopping and tuning trials: {trials}.")
    if any(arm.fired[1] for arm in findings.arms):
        sentences.append(
            f"guard: runs in which it would have deployed the same model without sources. It deploys {RULE}."
        )
    if len(findings.codes) > 1:
        sentences.append(f"The rows are of {len(findings.codes)} versions of the code: {'; '.join(findings.codes)}.")
    return tuple(sentences)


def _trials(findings: Findings) -> str:
    trials = sorted({run.trials for arm in findings.arms for run in arm.arm.runs})
    return "none, the default configuration" if trials == [0] else " and ".join(map(str, trials))


def _failed(findings: Findings) -> list[str]:
    titles = {(run.model, run.command): run.title for run in findings.study.plan}
    return [f"failed: {titles.get((r.model, r.command), r.model)}: {r.error}" for r in findings.results.failures]
