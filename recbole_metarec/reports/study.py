"""A study's table in the terminal, as Markdown and as CSV, and its picture."""

import csv
import io
import textwrap
from pathlib import Path

from tabulate import tabulate

from recbole_metarec.compare.findings import SEEDS, ArmFindings, Contrast, Findings
from recbole_metarec.compare.leaderboard import Protocol
from recbole_metarec.compare.settings import meaning
from recbole_metarec.evaluation.significance import METRIC
from recbole_metarec.files import write_atomically
from recbole_metarec.reports import display
from recbole_metarec.reports.leaderboard import cell
from recbole_metarec.reports.study_figures import picture

_REMEDY = "free some space or choose another --output"


def write_reports(findings: Findings, protocol: Protocol, command: str, folder: Path) -> tuple[Path, ...]:
    """Writes KIND.md, KIND.csv and KIND.png into ``folder``, which must exist; each is replaced as a whole.

    command: repeats the study. Raises DataError if a file cannot be written.
    """
    kind = findings.study.kind
    contents = {"md": markdown(findings, protocol, command).encode(), "csv": table_csv(findings, protocol).encode()}
    if any(arm.test for arm in findings.arms):
        contents["png"] = picture(findings, protocol)
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
    header, rows = _table(findings)
    kept = [k for k in range(len(header)) if any(row[k] not in (display.NOTHING, "") for row in rows)]
    table = tabulate(
        [[row[k] for k in kept] for row in rows], [header[k] for k in kept], tablefmt="simple", disable_numparse=True
    )
    lines = [_wrapped(protocol.line), "", table, "", *map(_wrapped, notes(findings))]
    return "\n".join([*lines, *_failed(findings)])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)


def markdown(findings: Findings, protocol: Protocol, command: str) -> str:
    """The whole study as GitHub's Markdown."""
    header, rows = _table(findings, details=True)
    table = tabulate([[cell(text) for text in row] for row in rows], header, tablefmt="pipe", disable_numparse=True)
    parts = [f"# {cell(title(findings))}", f"_{cell(protocol.line)}_", f"    {command}", table]
    if any(arm.test for arm in findings.arms):
        parts.append(f"![{cell(title(findings))}]({findings.study.kind}.png)")
    parts.append("\n".join(f"- {cell(note)}" for note in notes(findings)))
    if failed := _failed(findings):
        parts += ["## Failed runs", "\n".join(f"- {cell(line)}" for line in failed)]
    runs = [["Arm", "Seed", "NDCG@10 valid", "NDCG@10 test", "Best epoch", "Guard", "Time"]]
    for arm in findings.arms:
        for row in arm.rows:
            epoch = display.NOTHING if row.best_epoch is None else str(row.best_epoch)
            scores = [display.score(row.valid), display.score(row.test)]
            runs.append([arm.arm.name, str(row.seed), *scores, epoch, row.guard, display.duration(row.seconds)])
    cells = [[cell(text) for text in row] for row in runs]
    parts += ["## Runs", tabulate(cells[1:], cells[0], tablefmt="pipe", disable_numparse=True)]
    commands = dict.fromkeys(row.command for arm in findings.arms for row in arm.rows)
    parts += ["## Commands", "\n".join(f"    {' '.join(own.split())}" for own in commands)]
    return "\n\n".join(parts) + "\n"


def _table(findings: Findings, details: bool = False) -> tuple[list[str], list[list[str]]]:
    study = findings.study
    sweep = study.kind == "sweep"
    header = [study.key, "model"] if sweep else ["variant"]
    header += ["what differs" if not sweep else "data"] * details
    header += ["seeds", "users", "NDCG@10 test", "valid"]
    for name in study.columns:
        header += [f"Δ to {name}, 95 %", "%", "p", "p over seeds"]
    header += ["guard", "time"]
    return header, [_line(arm, sweep, details) for arm in findings.arms]


def _line(found: ArmFindings, sweep: bool, details: bool) -> list[str]:
    arm, nothing = found.arm, display.NOTHING
    line = [arm.value or "any", arm.model] if sweep else [arm.name]
    line += [arm.detail] * details
    line += [str(len(found.rows)), nothing if found.users is None else f"{found.users:,}"]
    line += [display.mean_std(found.test), display.mean_std(found.valid)]
    for contrast in found.contrasts:
        line += _contrast(contrast)
    line.append(f"{found.fired[0]} of {found.fired[1]} fired" if found.fired[1] else nothing)
    return [*line, nothing if found.seconds is None else display.duration(found.seconds)]


def _contrast(contrast: Contrast | None) -> list[str]:
    if contrast is None:
        return [display.NOTHING] * 4
    interval = contrast.difference.interval
    ends = "[n/a]" if abs(interval.low) == float("inf") else display.signed_interval(interval)
    mark = "‡" if contrast.over == SEEDS else ""
    share = display.NOTHING if contrast.relative is None else f"{100 * contrast.relative:+.1f}".replace("-", "−")
    over_seeds = display.NOTHING if contrast.p_seeds is None else display.probability(contrast.p_seeds)
    return [f"{display.signed(interval.mean)} {ends}{mark}", share, display.p_value(contrast.difference), over_seeds]


def notes(findings: Findings) -> list[str]:
    """What a reader must know to read the table, one sentence each."""
    study = findings.study
    found = ["NDCG@10: mean ± standard deviation over seeds (n/a: one seed has none), of the unguarded model."]
    if study.kind == "sweep":
        found.append(f"{study.key}: {meaning(study.key)}")
        if len({arm.arm.runs[0].dataset for arm in findings.arms}) > 1:
            found.append("Each share of users is a target of its own, with its own test users: compare within a share.")
    if all(run.config.get("text_alignment") for arm in study.arms for run in arm.runs):
        found.append("Every model, LRURec included, reads item texts beside ids (text_alignment).")
    if any(len({run.dataset for run in arm.runs}) > 1 for arm in study.arms):
        found.append(
            "Each seed is another shop: the users of all of them are pooled, and ± is over shops, too. "
            "The statistics above are of the whole domain that they are part of."
        )
    found.append(
        "Δ: mean difference over the seeds that both have, with its 95 % interval (paired bootstrap over test users of "
        "NDCG@10 averaged over seeds), each for itself; %: relative to the other's mean; p: Holm-corrected over the "
        f"{_tests(findings)} of a column. It asks whether other users would show the same; p over seeds (paired t over "
        "the seeds' differences, corrected alike) whether other trainings would, or other shops where a seed is a shop."
    )
    if findings.over_seeds:
        found.append("‡ over seeds (paired t): the runs' ranks are not at hand, so users could not be paired.")
    found.append(
        "Every arm has the same data, split, most epochs, early stopping and number of tuning trials: "
        f"{_trials(findings)}."
    )
    if any(arm.fired[1] for arm in findings.arms):
        found.append("guard: runs in which it would have deployed the same model without sources, by validation.")
    if len(findings.codes) > 1:
        found.append(f"The rows are of {len(findings.codes)} versions of the code: {'; '.join(findings.codes)}.")
    return found


def _tests(findings: Findings) -> str:
    counts = [sum(arm.contrasts[k] is not None for arm in findings.arms) for k in range(len(findings.study.columns))]
    return f"{max(counts, default=0)} differences"


def _trials(findings: Findings) -> str:
    trials = sorted({run.trials for arm in findings.arms for run in arm.arm.runs})
    return "none, the default configuration" if trials == [0] else " and ".join(map(str, trials))


def _failed(findings: Findings) -> list[str]:
    shown = {(run.model, run.command): run.title for run in findings.study.plan}
    return [f"failed: {shown.get((own.model, own.command), own.model)}: {own.error}" for own in findings.found.failures]


def table_csv(findings: Findings, protocol: Protocol) -> str:
    """One line per arm, unrounded; what a line does not have is empty."""
    rows = [_csv_row(arm, findings, protocol) for arm in findings.arms]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(found: ArmFindings, findings: Findings, protocol: Protocol) -> dict:
    study, arm = findings.study, found.arm
    row = {"experiment": study.name, "simulated": protocol.simulated}
    row |= {"dataset": "+".join(dict.fromkeys(run.dataset for run in arm.runs))}
    row |= {"sources": "+".join(arm.runs[0].sources), "model": arm.model, study.key or "changes": arm.value}
    if study.kind == "ablate":
        row["changes"] = arm.detail
    row |= {"seeds": " ".join(str(own.seed) for own in found.rows), "users": found.users}
    for name, spread in (("valid", found.valid), ("test", found.test)):
        row |= {f"{name}_{METRIC}_mean": spread and spread.mean, f"{name}_{METRIC}_std": spread and spread.std}
    level = found.level
    row |= {f"test_{METRIC}_low": level and max(0.0, level.low), f"test_{METRIC}_high": level and level.high}
    for name, contrast in zip(study.columns, found.contrasts):
        own = contrast and contrast.difference
        row |= {
            f"to_{name}": own and own.interval.mean,
            f"to_{name}_low": own and own.interval.low,
            f"to_{name}_high": own and own.interval.high,
            f"to_{name}_relative": contrast and contrast.relative,
            f"to_{name}_p_holm": own and own.p,
            f"to_{name}_p_seeds_holm": contrast and contrast.p_seeds,
            f"to_{name}_over": contrast and contrast.over,
        }
    row |= {"guard_fired": found.fired[0], "guard_known": found.fired[1], "seconds": found.seconds}
    return {key: "" if value is None else value for key, value in row.items()}
