"""A comparison in the terminal, as Markdown and as CSV; the page is in html.py."""

import csv
import io
import itertools
import textwrap
from pathlib import Path

from tabulate import tabulate

from recbole_metarec.compare.leaderboard import Comparison, Entry
from recbole_metarec.evaluation.significance import METRIC, Spread
from recbole_metarec.files import write_atomically
from recbole_metarec.reports import display
from recbole_metarec.reports.html import page

_REMEDY = "free some space or choose another folder"
FEWER_TRIALS = "†"
_WIDTH = 120  # of text in the terminal


def write_reports(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Writes leaderboard.md, .csv and .html into ``folder``, which must exist; each is replaced as a whole.

    Raises DataError if a file cannot be written.
    """
    texts = {"md": markdown(comparison), "csv": table_csv(comparison), "html": page(comparison)}
    return tuple(
        write_atomically(Path(folder) / f"leaderboard.{kind}", [text.encode()], _REMEDY) for kind, text in texts.items()
    )


def terminal_table(comparison: Comparison) -> str:
    """What the command prints in the end: protocol, one line per model, what the marks mean, failed runs."""
    lines = [_wrapped(comparison.protocol.line), ""]
    if comparison.entries:
        header = ["", "model", "tier", "seeds", "NDCG@10", "valid", "guarded", "Δ best baseline, 95 %", "p"]
        header += ["time", "MiB", "params", "trials"]
        rows = [_terminal_row(entry, comparison) for entry in comparison.entries]
        kept = [k for k in range(len(header)) if k < 2 or any(row[k] != display.NOTHING for row in rows)]
        rows = [[row[k] for k in kept] for row in rows]
        right = ["right" if k != 1 else "left" for k in kept]
        plain = {"disable_numparse": True, "colalign": right, "tablefmt": "simple"}
        lines += [tabulate(rows, [header[k] for k in kept], **plain), "", *map(_wrapped, notes(comparison))]
    lines += [f"failed: {run.model}, seed {run.seed}: {run.error}" for run in comparison.failed]
    return "\n".join(lines)


def _terminal_row(entry: Entry, comparison: Comparison) -> list[str]:
    difference, p = difference_cells(entry, comparison)
    return [
        str(entry.place),
        entry.model,
        str(entry.tier),
        str(len(entry.runs)),
        display.mean_std(entry.test[METRIC]),
        _mean(entry.valid.get(METRIC)),
        _mean(entry.guarded_test.get(METRIC)),
        difference,
        p,
        display.duration(entry.seconds),
        f"{entry.peak_memory_mib:.0f}",
        display.amount(entry.parameters),
        trials(entry),
    ]


def _mean(spread: Spread | None) -> str:
    return display.NOTHING if spread is None else display.score(spread.mean)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def difference_cells(entry: Entry, comparison: Comparison) -> tuple[str, str]:
    """(difference with its interval, p)."""
    if entry.model == comparison.best_baseline:
        return "best baseline", display.NOTHING
    if entry.difference is None:
        return display.NOTHING, display.NOTHING
    found = entry.difference.interval
    return f"{display.signed(found.mean)} {display.signed_interval(found)}", display.p_value(entry.difference)


def trials(entry: Entry) -> str:
    """How many configurations were tried, marked if others had more."""
    return f"{entry.trials}{FEWER_TRIALS if entry.fewer_trials else ''}"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the table, one sentence each."""
    found = [
        "NDCG@10: test, mean ± standard deviation over seeds (n/a: one seed has none). "
        "Models with a transfer guard stand here without it; the guarded figure has its own column.",
        "Tier: the best model leads tier 1; who is not significantly worse than a tier's leader is in it.",
    ]
    if comparison.best_baseline is not None:
        found.append(
            f"Δ: mean difference to {comparison.best_baseline}, the best baseline on validation; 95 % interval by "
            "paired bootstrap over test users of their NDCG@10 averaged over seeds, each interval for itself; "
            "p Holm-corrected over all pairs of models."
        )
    found.append(
        "The test asks whether other users would show the same; it does not cover other seeds. "
        "Compare a difference with the ± too."
    )
    if len({len(entry.runs) for entry in comparison.entries}) > 1:
        found.append("Not every model has a run of every seed: means over fewer seeds are less certain.")
    if any(entry.fewer_trials for entry in comparison.entries):
        found.append(f"{FEWER_TRIALS} found with fewer trials than others: tuned with a smaller budget.")
    return found


def markdown(comparison: Comparison) -> str:
    """The whole comparison as GitHub's Markdown."""
    protocol = comparison.protocol
    parts = [f"# Leaderboard: {cell(protocol.dataset)}"]
    if comparison.entries:
        parts += ["## Models", *_markdown_models(comparison), *(f"- {cell(note)}" for note in notes(comparison))]
        if comparison.best_baseline is not None:
            parts += [f"## Differences to {cell(comparison.best_baseline)}", *_markdown_differences(comparison)]
        if comparison.segments:
            parts += ["## Segments: NDCG@10 with its 95 % interval", *_markdown_segments(comparison)]
    if comparison.failed:
        rows = [[run.model, str(run.seed), run.error] for run in comparison.failed]
        parts += ["## Failed runs", *_markdown_table(comparison, ["Model", "Seed", "Error"], rows)]
    commands = [run.command for entry in comparison.entries for run in entry.runs]
    commands += [run.command for run in comparison.failed]
    # four spaces make a code block that no command can end
    parts += ["## Commands", "\n".join(f"    {' '.join(command.split())}" for command in commands)]
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    """Blank lines between blocks, none within a list."""
    text = parts[0]
    for before, part in itertools.pairwise(parts):
        text += ("\n" if before.startswith("- ") and part.startswith("- ") else "\n\n") + part
    return text + "\n"


def _markdown_models(comparison: Comparison) -> list[str]:
    entries = comparison.entries
    keys = display.metric_order(entries[0].test)
    guarded = any(METRIC in entry.guarded_test for entry in entries)
    header = ["", "Model", "Tier", "Seeds", *(display.metric_name(key) for key in keys), "NDCG@10 valid"]
    header += ["NDCG@10 guarded"] * guarded
    header += ["Time per run", "Peak MiB", "Parameters", "Trials"]
    rows = []
    for entry in entries:
        row = [str(entry.place), entry.model, str(entry.tier), str(len(entry.runs))]
        row += [display.mean_std(entry.test.get(key)) for key in keys] + [display.mean_std(entry.valid.get(METRIC))]
        row += [display.mean_std(entry.guarded_test.get(METRIC))] * guarded
        row += [display.duration(entry.seconds), f"{entry.peak_memory_mib:,.0f}", f"{entry.parameters:,}"]
        rows.append([*row, trials(entry)])
    return _markdown_table(comparison, header, rows)


def _markdown_differences(comparison: Comparison) -> list[str]:
    header = ["Model", "Δ NDCG@10", "95 % interval over users", "p (Holm)", "Verdict", "Δ of each seed"]
    rows = []
    for entry in comparison.entries:
        if entry.difference is not None:
            found = entry.difference
            seeds = ", ".join(display.signed(value) for value in entry.seed_differences)
            row = [entry.model, display.signed(found.interval.mean), display.signed_interval(found.interval)]
            rows.append([*row, display.p_value(found), found.verdict, seeds])
    return _markdown_table(comparison, header, rows)


def _markdown_segments(comparison: Comparison) -> list[str]:
    header = ["Segment", "Users", *(entry.model for entry in comparison.entries)]
    rows = [
        [
            f"{scores.segment.name} ({scores.segment.rule})",
            f"{scores.segment.users:,}",
            *(f"{display.score(found.mean)} ({display.interval(found)})" for found in scores.intervals),
        ]
        for scores in comparison.segments
    ]
    return _markdown_table(comparison, header, rows)


def _markdown_table(comparison: Comparison, header: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell(text) for text in row] for row in rows]
    table = tabulate(cells, [cell(text) for text in header], tablefmt="pipe", disable_numparse=True)
    return [f"_{cell(comparison.protocol.line)}_", table]


def cell(text: str) -> str:
    """Text that stays what it is in Markdown: no column of its own, no HTML, no link, no emphasis."""
    for sign in "\\`*_|<>":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("](", "]\\(").split())


def table_csv(comparison: Comparison) -> str:
    """One line per model, then one per failed run, unrounded; what a line does not have is empty."""
    protocol = comparison.protocol
    same = {
        "dataset": protocol.dataset,
        "simulated": protocol.simulated,
        "users": protocol.users,
        "items": protocol.items,
        "interactions": protocol.interactions,
        "split": protocol.split,
        "metric": protocol.metric,
        "max_length": protocol.max_length,
        "width": protocol.width,
        "early_stopping": protocol.early_stopping,
    }
    rows = [_csv_row(entry, comparison) for entry in comparison.entries]
    rows += [{"model": run.model, "failed_seed": run.seed, "error": run.error} for run in comparison.failed]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *same], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | same for row in rows)
    return text.getvalue()


def _csv_row(entry: Entry, comparison: Comparison) -> dict:
    row = {"model": entry.model, "place": entry.place, "tier": entry.tier, "baseline": entry.baseline}
    row["seeds"] = " ".join(str(run.seed) for run in entry.runs)
    for part, metrics in (("test", entry.test), ("valid", entry.valid), ("guarded_test", entry.guarded_test)):
        for key in display.metric_order(metrics):
            row |= _csv_spread(f"{part}_{key}", metrics[key])
    row |= {f"test_{METRIC}_low": entry.interval.low, f"test_{METRIC}_high": entry.interval.high}
    row["best_baseline"] = comparison.best_baseline
    if entry.difference is not None:
        found = entry.difference
        row |= {"difference": found.interval.mean, "difference_low": found.interval.low}
        row |= {"difference_high": found.interval.high, "p_holm": found.p, "verdict": found.verdict}
    row |= {"seconds": entry.seconds, "peak_memory_mib": entry.peak_memory_mib, "parameters": entry.parameters}
    return row | {"trials": entry.trials, "fewer_trials": entry.fewer_trials}


def _csv_spread(name: str, found: Spread) -> dict:
    return {f"{name}_mean": found.mean, f"{name}_std": "" if found.std is None else found.std}
