"""Writes the pages that follow from the code, and the notebooks of the tutorials. Run: python docs/make_reference.py

reference/config-keys.md from the comments in properties/, reference/command-line.md from the commands' help,
reference/errors.md from the errors that the package raises, how-it-works/architecture.md from the import contract in
setup.cfg, tutorials/NAME.ipynb from tutorials/NAME.md. tests/test_docs.py holds them equal.
"""

import ast
import json
import re
from configparser import ConfigParser
from pathlib import Path

from recbole_metarec.cli import main as cli
from recbole_metarec.config.models import SHIPPED_SPECS
from recbole_metarec.config.schema import Key, key_reference

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "recbole_metarec"
START, END = "<!-- made by docs/make_reference.py: do not edit below -->\n", "<!-- end of what is made -->"


def config_keys() -> str:
    """A table of the keys of the protocol, of LRURec and MetaRec, of MetaRec alone, of UniSRec, and of each fitted
    baseline that has some, in the order of their files."""
    overall = {name: key for name, key in key_reference("MetaRec").items() if "overall" in key.file}
    shared = key_reference("LRURec").keys() - overall.keys()
    parts = {
        "Data, training and evaluation": overall.values(),
        "LRURec and MetaRec": [key for name, key in key_reference("LRURec").items() if name in shared],
        "MetaRec": [key for name, key in key_reference("MetaRec").items() if name not in shared | overall.keys()],
        "UniSRec": [key for name, key in key_reference("UniSRec").items() if name not in overall],
    }
    for model in (spec.name for spec in SHIPPED_SPECS if spec.is_fitted):
        if own := [key for name, key in key_reference(model).items() if name not in overall]:
            parts[model] = own
    head = "| key | default | type and range | meaning |\n|---|---|---|---|"
    return "\n\n".join("\n".join([f"## {title}\n", head, *map(_key_row, keys)]) for title, keys in parts.items())


def _key_row(key: Key) -> str:
    default = "" if key.default is None else f"`{key.default}`"
    return f"| `{key.name}` | {default} | {', '.join(filter(None, (key.kind, key.rule)))} | {key.sentence} |"


def command_line() -> str:
    """Each command's usage, options and examples."""
    return "\n\n".join(map(_command, cli.COMMANDS))


def _command(name: str) -> str:
    with cli._commands.make_context("recbole-metarec", [], resilient_parsing=True) as group:
        command = cli._commands.get_command(group, name)
        with command.make_context(name, [], parent=group, resilient_parsing=True) as context:
            usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
            records = filter(None, (option.get_help_record(context) for option in command.get_params(context)))
            rows = [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records if text]
    table = "\n".join(["| option | meaning |", "|---|---|", *rows])
    return f"## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n\n{table}\n\n```text\n{command.epilog.strip()}\n```"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def errors() -> str:
    """A table for each part of the package: what its errors say, and what to do."""
    parts = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                parts.setdefault(part, set()).update(_raised(function))
    return "\n\n".join(_error_table(part, found) for part, found in parts.items() if found)


def _raised(function: ast.FunctionDef) -> list[tuple[str, str]]:
    """(message, remedy) of each error of ours that is made with a text, in it or by the two helpers named ``fail``."""
    names = {
        node.targets[0].id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if isinstance(node.value, ast.Constant | ast.JoinedStr | ast.BinOp | ast.IfExp)
    }
    found = []
    for node in ast.walk(function):
        name = getattr(getattr(node, "func", None), "id", "")
        if re.fullmatch(r"\w+Error", name) and node.args:
            found.append(tuple(_text(node.args[0], names).rsplit("; ", 1)))
        elif name in ("fail", "Fault") and len(node.args) > 1:
            found.append(tuple(_text(part, names) for part in node.args[1 if name == "Fault" else -2 :][:2]))
    said = [pair for pair in found if len(pair) == 2]
    return [pair for pair in said if all(re.search(r"[^\W\d_]{3}", part) for part in pair)]


def _text(node: ast.AST, names: dict[str, ast.AST]) -> str:
    """What a string or f-string says; … for what it fills in, unless ``names`` has a text for that."""
    if isinstance(node, ast.Constant):
        return "" if node.value is None else str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, names) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, names) + _text(node.right, names)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, names)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (_text(node.body, names), _text(node.orelse, names))))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "located":
        return f"…: {_text(node.args[1], names)}"
    if isinstance(node, ast.Name) and node.id in names:
        return _text(names[node.id], {name: value for name, value in names.items() if name != node.id})
    return "…"


def _error_table(part: str, found: list[tuple[str, str]]) -> str:
    rows = sorted({f"| {_cell(message)} | {_cell(remedy)} |" for message, remedy in found})
    return "\n".join([f"## {TITLES[part]}\n", "| error | what to do |", "|---|---|", *rows])


TITLES = {
    "baselines": "Fitted baselines", "cli": "Commands", "compare": "Comparisons", "config": "Config keys and models",
    "data": "Data", "errors": "Memory", "evaluation": "Evaluation", "files": "Files", "jobs": "Many runs",
    "model": "Saved networks",
    "plugin": "RecBole", "prepare": "Making domains", "runs": "Runs", "serve": "Recommending",
    "serving": "Recommending in bulk, and export", "trainer": "Training and checkpoints", "tuning": "Tuning",
}  # fmt: skip
WHAT = {
    "__main__": "python -m recbole_metarec", "cli": "one file per command", "reports": "tables, figures, the HTML page",
    "compare": "leaderboard, ablations, sweeps: which runs, and what their numbers say", "tuning": "search",
    "jobs": "many runs as processes, and the store of their results", "quick_start": "run_experiment",
    "serving": "bulk recommendations, ONNX", "runs": "one run: its folder, resume, settings",
    "serve": "Recommender; imports no RecBole", "plugin": "all that touches RecBole's insides: hooks, patches, loaders",
    "trainer": "meta step, sources, checkpoints", "baselines": "models that are fitted",
    "evaluation": "ranking, metrics, statistics", "model": "networks, and their faces for RecBole",
    "prepare": "what makes a domain: logs, texts, simulation, splits", "data": "what reads a domain: stores, batches",
    "config": "every key: its table, rules, files; the registry of models", "figures": "matplotlib's settings",
    "tables": "one table for terminal, Markdown, CSV and HTML", "files": "atomic writes, cache, locks",
    "errors": "the errors", "lazy": "imports at first use", "processes": "several processes that train one model",
    "randomness": "streams of random numbers",
}  # fmt: skip


def layers() -> list[list[str]]:
    """The packages by layer, the topmost first, as setup.cfg has them."""
    contract = ConfigParser()
    contract.read(DOCS.parent / "setup.cfg")
    lines = contract["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[name.strip().removeprefix("recbole_metarec.") for name in line.split("|")] for line in lines]


def architecture() -> str:
    """The map: a table with a row for each layer."""
    rows = [f"| {number} | {'<br>'.join(f'**`{name}`** {WHAT[name]}' for name in layer)} |"
            for number, layer in enumerate(layers(), 1)]  # fmt: skip
    return "\n".join(["| layer | what is in it |", "|---|---|", *rows])


def picture() -> str:
    """The map as a drawing: a row of boxes for each layer."""
    boxes = []
    for row, layer in enumerate(layers()):
        width = (_WIDTH - 10) / len(layer)
        for column, name in enumerate(layer):
            x, y = 10 + column * width, 10 + row * 44
            boxes.append(f'<rect x="{x:.0f}" y="{y}" width="{width - 10:.0f}" height="32" rx="6"/>')
            boxes.append(f'<text x="{x + width / 2 - 5:.0f}" y="{y + 21}">{name}</text>')
    height = 14 + 44 * len(layers())
    arrow = f'<path d="M{_WIDTH + 20} 20 V{height - 20} m-5 -9 l5 9 l5 -9"/>'
    arrow += f'<text x="{_WIDTH + 62}" y="30">imports</text>'
    style = "rect { fill: #e8eaf6; stroke: #3f51b5; } text { text-anchor: middle; } path { stroke: #444; fill: none; }"
    size = f'viewBox="0 0 {_WIDTH + 110} {height}" font-family="monospace" font-size="14"'
    paper = f'<rect width="{_WIDTH + 110}" height="{height}" style="fill: #fff; stroke: none"/>'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{style}</style>", paper, *boxes, arrow]
    return "\n".join([*parts, "</svg>", ""])


def notebook(page: str) -> dict:
    """A tutorial as a notebook: commands, programs and files are cells, the rest is text between them."""
    cells = []
    for number, part in enumerate(
        re.split(r"^(```(?:bash|python|\w+ \S+)\n.*?^```)$", page, flags=re.MULTILINE | re.DOTALL)
    ):
        block = re.match(r"```(\w+) ?(\S*)\n(.*)\n```$", part, re.DOTALL)
        lines = _code(*block.groups()) if block else _prose(part)
        if lines:
            kind = {"cell_type": "code", "execution_count": None, "outputs": []} if block else {"cell_type": "markdown"}
            cells.append({**kind, "id": f"cell-{number}", "metadata": {}, "source": "\n".join(lines)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _code(language: str, file: str, text: str) -> list[str]:
    if language == "bash":
        return [f"!{line}" for line in text.replace("\\\n", "").splitlines()]
    return ([f"%%writefile {file}"] if file else []) + text.splitlines()


def _prose(text: str) -> list[str]:
    """Without the box that names the notebook."""
    text = re.sub(r'^!!! tip "As a notebook"\n(?:    .*\n)+', "", text, flags=re.MULTILINE)
    return text.strip().splitlines()


_WIDTH = 700  # of the drawing
MADE = {
    "reference/config-keys.md": config_keys,
    "reference/command-line.md": command_line,
    "reference/errors.md": errors,
    "how-it-works/architecture.md": architecture,
}


def made() -> dict[Path, str]:
    """Every file that is made, with its text."""
    files = {}
    for name, make in MADE.items():
        before, _, rest = (DOCS / name).read_text(encoding="utf-8").partition(START)
        files[DOCS / name] = f"{before}{START}\n{make()}\n\n{END}{rest.partition(END)[2]}"
    files[DOCS / "how-it-works" / "architecture.svg"] = picture()
    for page in sorted((DOCS / "tutorials").glob("*.md")):
        text = json.dumps(notebook(page.read_text(encoding="utf-8")), indent=1, ensure_ascii=False)
        files[page.with_suffix(".ipynb")] = f"{text}\n"
    return files


if __name__ == "__main__":
    for file, text in made().items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"written: {file.relative_to(DOCS.parent)}")
