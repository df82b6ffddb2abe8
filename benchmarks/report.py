"""Writes results.md from rows.yaml and the JSON files of the rows. It measures nothing."""

import json
from pathlib import Path

import yaml
from harness import HERE, spread


def read_rows(file: Path = HERE / "rows.yaml") -> dict[str, dict]:
    """name -> row, in order."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def read_results(folder: Path, rows: dict[str, dict]) -> dict[str, dict]:
    """name of the row -> what has been measured so far."""
    files = {name: folder / f"{name}.json" for name in rows}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def report(rows: dict[str, dict], results: dict[str, dict]) -> str:
    """The text of results.md."""
    measured = {name: result for name, result in results.items() if "not_yet" not in result}
    lines = [
        "# Benchmarks",
        "",
        "Ratios are min / **median** / max over the repeats, both sides alternating in one process; a goal is reached "
        "if the median reaches it. Made by `python benchmarks/run_all.py --data_path DIR`.",
        "",
        *_machines(measured),
        "",
        "| what | goal | reached | goal reached | both sides |",
        "|---|---|---|---|---|",
        *(_line(row, results.get(name)) for name, row in rows.items()),
        "",
        "## How it was measured",
        "",
    ]
    for name, result in measured.items():
        if name in rows:
            lines += _details(name, rows[name], result)
    return "\n".join(lines).rstrip() + "\n"


def reaches(row: dict, median: float) -> bool:
    """Whether the median reaches the goal of a row."""
    return median >= row["at_least"] if "at_least" in row else median <= row["at_most"]


def _goal(row: dict) -> str:
    return f"{'≥' if 'at_least' in row else '≤'} {row.get('at_least', row.get('at_most'))} {row['unit']}"


def _line(row: dict, result: dict | None) -> str:
    cells = [row["what"], _goal(row)]
    if result is None or "not_yet" in result:
        reason = (result or row).get("not_yet", "not measured")
        return _cells([*cells, f"not yet: {reason}", "", ""])
    low, median, high = spread(result["reached"])
    sides = "; ".join(f"{name}: {_spread(figure)}" for name, figure in result["figures"].items())
    reached = "yes" if reaches(row, median) else "**no**"
    return _cells([*cells, f"{_number(low)} / **{_number(median)}** / {_number(high)}", reached, sides])


def _spread(figure: dict) -> str:
    low, median, high = (_number(value) for value in spread(figure["values"]))
    return f"{median} {figure['unit']}" + ("" if low == high else f" ({low} to {high})")


def _details(name: str, row: dict, result: dict) -> list[str]:
    lines = [f"**{row['what']}** (`{row['script']}`, {len(result['reached'])} repeats). Same thing: {result['same']}."]
    if result["notes"]:
        lines.append(result["notes"])
    if not reaches(row, spread(result["reached"])[1]):
        lines.append(f"*What holds it back:* {row.get('holds_back', 'not looked into yet')}")
    return [" ".join(lines), ""]


def _machines(measured: dict[str, dict]) -> list[str]:
    """One line for each machine and set of versions, with the rows that were measured on it."""
    names_of: dict[str, list[str]] = {}
    for name, content in measured.items():
        names_of.setdefault(_machine(content), []).append(name)
    if len(names_of) == 1:
        return list(names_of)
    return [f"- {', '.join(names)}: {machine}" for machine, names in names_of.items()]


def _machine(content: dict) -> str:
    facts = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    commit = f", commit {content['commit'][:10]}" if content["commit"] else ""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads{gpu}, {facts['system']}; {versions}; "
        f"{content['date']}{commit}"
    )


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
