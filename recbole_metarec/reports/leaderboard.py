"""A comparison of models in the terminal, as Markdown and as CSV; the page is in html.py.

Every report has the comparison in both protocols, with seen items kept in the ranking first, a table for each.
A new column of the models' table is one more line in :func:`model_columns`: every report then has it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from statistics import fmean

from recbole_metarec.compare.leaderboard import KEPT, Comparison, Difference, Entry
from recbole_metarec.evaluation.metric import Metric
from recbole_metarec.evaluation.transfer_guard import RULE
from recbole_metarec.files import write_atomically
from recbole_metarec.reports.html import page
from recbole_metarec.tables import (
    COUNT,
    DIFFERENCE,
    INTERVAL,
    LEVEL,
    MEAN_STD,
    SECONDS,
    WHOLE,
    Column,
    Format,
    Table,
    code_block,
    csv_text,
    escaped,
    probability,
    score,
    signed,
    signed_interval,
)

_REMEDY = "free some space or choose another folder"
FEWER_TRIALS = "†"
_OVER_SEEDS = "mean and standard deviation over random seeds"


def metric_name(key: str) -> str:
    """``ndcg@10`` as people write it."""
    return Metric.named(key).label


def p_value(difference: Difference) -> str:
    """Where no draw of users contradicted the difference, p is only known to be below."""
    text = probability(difference.p)
    return f"≤ {text}" if difference.certain and difference.p < 0.1 else text


P_VALUE = Format(p_value, values={"": attrgetter("p")})
RUN_SEEDS = Format(lambda runs: str(len(runs)), values={"": lambda runs: " ".join(str(r.seed) for r in runs)}, sort=len)
_EACH_SEED = Format(lambda values: ", ".join(map(signed, values)), sort=fmean)
_TRIALS = Format(
    lambda entry: f"{entry.trials}{FEWER_TRIALS if entry.fewer_trials else ''}", values={"": attrgetter("trials")}
)


def model_columns(comparison: Comparison) -> tuple[Column, ...]:
    """What every report shows of a model: an Entry."""

    chosen, metric = comparison.protocol.measure.key, comparison.protocol.measure.label

    def measured(part: str, key: str = chosen) -> Callable:
        return lambda entry: getattr(entry, part).get(key)

    def difference(part: str) -> Callable:
        return lambda entry: entry.difference and getattr(entry.difference, part)

    best = comparison.best_baseline
    others = dict.fromkeys(key for entry in comparison.entries for key in entry.test if key != chosen)
    brief, absent = {"terminal": "brief"}, {"terminal": "none"}
    return (
        Column("Model", attrgetter("model"), name="model", left=True),
        Column("Place", attrgetter("place"), name="place", hint=f"By test {metric}"),
        Column("Tier", attrgetter("tier"), name="tier", hint="No model is significantly worse than its leader"),
        Column(None, attrgetter("baseline"), name="baseline"),
        Column(metric, measured("test"), MEAN_STD, f"test_{chosen}", "test", f"Test, {_OVER_SEEDS}"),
        Column(f"Δ to {best}", difference("interval"), DIFFERENCE, "difference",
               hint=f"Mean difference of test {metric} to the best baseline, with its 95 % interval over users"),
        Column("p", attrgetter("difference"), P_VALUE, "p_holm", hint="Holm-corrected over all pairs of models"),
        Column("Verdict", difference("verdict"), name="verdict", left=True, **absent),
        Column("Valid", measured("valid"), MEAN_STD, f"valid_{chosen}", metric, f"Validation, {_OVER_SEEDS}", **brief),
        Column("Guarded", measured("guarded_test"), MEAN_STD, f"guarded_test_{chosen}", metric,
               "Test, of the model that the transfer guard deploys", **brief),
        Column("95 % interval", attrgetter("interval"), INTERVAL, f"test_{chosen}", "over users",
               f"Of the mean test {metric}", **absent),
        Column("Seeds", attrgetter("runs"), RUN_SEEDS, "seeds", hint="Runs with different random seeds"),
        Column("Time", attrgetter("seconds"), SECONDS, "seconds", "per run", "Mean over the runs", **brief),
        Column("MiB", attrgetter("peak_memory_mib"), WHOLE, "peak_memory_mib", "peak memory",
               "Of the largest run", **brief),
        Column("Parameters", attrgetter("parameters"), COUNT, "parameters"),
        Column("Trials", lambda entry: entry, _TRIALS, "trials", hint="Configurations tried on validation"),
        *(Column(metric_name(key), measured("test", key), MEAN_STD, f"test_{key}", "test", f"Test, {_OVER_SEEDS}",
                 **absent) for key in others),
        *(Column(None, measured(part, key), MEAN_STD, f"{part}_{key}")
          for part in ("valid", "guarded_test") for key in others),
        Column("Δ of each seed", lambda entry: entry.seed_differences if entry.difference else None, _EACH_SEED,
               hint=f"Each seed's test {metric} minus the best baseline's mean", **absent),
        Column(None, attrgetter("fewer_trials"), name="fewer_trials"),
        Column(None, lambda entry: best, name="best_baseline"),
    )  # fmt: skip


def notes(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """What a reader must know to read the tables, a sentence or two each."""
    entries = [entry for comparison in comparisons for entry in comparison.entries]
    measure = comparisons[0].protocol.measure
    validated = "first" if comparisons[0].protocol.validated == KEPT else "second"
    sentences = [
        "Seen items: those of the user's whole history before the held-out item. RecBole keeps them in the ranking; "
        "the other table removes them from the same scores, so that a repeat is missed. Early stopping and "
        f"the transfer guard see the {validated} ranking alone.",
        f"{measure.label}: test, mean ± standard deviation over seeds (n/a: one seed has none).",
        "Tier: the best model leads tier 1; every model that is not significantly worse than this leader is in it. The "
        "best of the others leads tier 2, and so on. Two models of one tier need not be equal.",
    ]
    if any(comparison.best_baseline is not None for comparison in comparisons):
        sentences.append(
            "Δ: mean difference to the best baseline on validation; 95 % interval by paired bootstrap over test users "
            f"of their {measure.label} averaged over seeds, not corrected; p: Holm-corrected over all pairs of models "
            "of a table."
        )
    sentences.append(
        "The test asks whether other users would show the same; it does not cover other seeds: compare a difference "
        "with the ± and with the single seeds, too."
    )
    if any(measure.key in entry.guarded_test for entry in entries):
        sentences.append(
            "Models with a transfer guard are reported without it; a separate column shows the guarded score, that of "
            f"{RULE}."
        )
    if len({len(entry.runs) for entry in entries}) > 1:
        sentences.append("Not every model has a run of every seed: means over fewer seeds are less certain.")
    if any(entry.fewer_trials for entry in entries):
        sentences.append(f"{FEWER_TRIALS} tuned with fewer trials than other models.")
    return tuple(sentences)


def models_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """One line per model, best first; the notes are below the last table."""
    tables = [_models_table(comparison) for comparison in comparisons]
    return [*tables[:-1], replace(tables[-1], notes=notes(comparisons))]


def _models_table(comparison: Comparison) -> Table:
    protocol = comparison.protocol
    return Table(model_columns(comparison), comparison.entries, f"Models, {protocol.label}", protocol.line)


def segments_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """One line per model, one column per part of the users; none without segments. Notes as for the models."""
    tables = [_segments_table(comparison) for comparison in comparisons if comparison.segments]
    rules = [f"{scores.segment.name}: {scores.segment.rule}" for scores in comparisons[0].segments]
    rules.append("The differences inside a segment are not tested.")
    return [*tables[:-1], *(replace(table, notes=tuple(rules)) for table in tables[-1:])]


def _segments_table(comparison: Comparison) -> Table:
    columns = [Column("Model", lambda m: comparison.entries[m].model, left=True)]
    for scores in comparison.segments:
        segment = scores.segment
        columns.append(
            Column(
                segment.name,
                scores.intervals.__getitem__,
                LEVEL,
                minor=f"({segment.users:,} users)",
                hint=segment.rule,
                best=True,
            )
        )
    protocol = comparison.protocol
    title = f"Segments: test {protocol.measure.label} with its 95 % interval, {protocol.label}"
    return Table(tuple(columns), tuple(range(len(comparison.entries))), title, protocol.line)


def failed_table(comparison: Comparison) -> Table:
    """One line per run without a result."""
    columns = (
        Column("Model", attrgetter("model"), name="model", left=True),
        Column("Seed", attrgetter("seed"), name="failed_seed"),
        Column("Error", attrgetter("error"), name="error", left=True),
    )
    return Table(columns, comparison.failed, "Failed runs", comparison.protocol.line)


def write_reports(comparisons: Sequence[Comparison], folder: Path) -> tuple[Path, ...]:
    """Writes leaderboard.md, .csv and .html into ``folder``, which must exist; each is replaced as a whole.

    Raises DataError if a file cannot be written.
    """
    html = page(comparisons, headline(comparisons), models_tables(comparisons), segments_tables(comparisons))
    texts = {"md": markdown(comparisons), "csv": table_csv(comparisons), "html": html}
    return tuple(
        write_atomically(Path(folder) / f"leaderboard.{kind}", [text.encode()], _REMEDY) for kind, text in texts.items()
    )


def terminal_table(comparisons: Sequence[Comparison]) -> str:
    """What the command prints in the end: of each protocol one line per model, how to read it, failed runs."""
    tables = models_tables(comparisons)
    if not comparisons[0].entries:
        tables = [replace(tables[0], notes=())]
    lines = ["\n\n".join(table.terminal() for table in tables)]
    lines += [f"failed: {run.model}, seed {run.seed}: {run.error}" for run in comparisons[0].failed]
    return "\n".join(lines)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The whole comparison as GitHub's Markdown."""
    first = comparisons[0]
    tables = models_tables(comparisons) if first.entries else []
    tables += segments_tables(comparisons)
    tables += [failed_table(first)] if first.failed else []
    commands = [run.command for entry in first.entries for run in entry.runs]
    commands += [run.command for run in first.failed]
    parts = [f"# Leaderboard: {escaped(first.protocol.dataset)}", *(table.markdown() for table in tables)]
    return "\n\n".join([*parts, "## Commands", code_block(commands)]) + "\n"


def table_csv(comparisons: Sequence[Comparison]) -> str:
    """One line per protocol and model, then one per failed run, unrounded; what a line does not have is empty."""
    names = ("dataset", "simulated", "users", "items", "interactions", "split", "metric", "max_length", "width",
             "early_stopping")  # fmt: skip
    same = {name: getattr(comparisons[0].protocol, name) for name in names}
    records = [
        {"seen_items": comparison.protocol.seen_items, **record}
        for comparison in comparisons
        for record in _models_table(comparison).records()
    ]
    return csv_text([record | same for record in [*records, *failed_table(comparisons[0]).records()]])


def headline(comparisons: Sequence[Comparison]) -> list[str]:
    """The result in words: which model leads, which are level with it, and how far the best baseline is."""
    if not comparisons[0].entries:
        return ["No run has finished yet."]
    return [sentence for comparison in comparisons for sentence in _headline(comparison)]


def _headline(comparison: Comparison) -> list[str]:
    leader, *others = comparison.entries
    measure = comparison.protocol.measure
    level = leader.test[measure.key]
    seeds = f"± {score(level.std)} over {level.seeds} seeds" if level.std is not None else "one seed"
    label = comparison.protocol.label
    sentences = [f"With {label}, {leader.model} has the highest test {measure.label}: {score(level.mean)} ({seeds})."]
    alike = [entry.model for entry in others if entry.tier == leader.tier]
    if alike:
        sentences.append(f"Not distinguishable from it: {', '.join(alike)}.")
    elif others:
        sentences.append("Every other model is significantly worse.")
    if comparison.best_baseline == leader.model:
        sentences.append("It is also the best baseline on validation.")
    elif leader.difference is not None:
        sentences.append(_against_baseline(leader, comparison.best_baseline))
    return sentences


def _against_baseline(leader: Entry, best: str) -> str:
    verdict, apart = leader.difference.verdict, leader.difference.interval
    word = {"not distinguishable": "not distinguishable from", "better": "better than", "worse": "worse than"}[verdict]
    ends = signed_interval(apart.low, apart.high)
    return f"{leader.model} is {word} {best}, the best baseline on validation: {signed(apart.mean)} {ends}."
