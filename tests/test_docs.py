"""What the pages show is true: made parts are as the code says, commands and programs run, links lead somewhere.

The tutorials are done from end to end, as notebooks; only data and networks are smaller than in the text. Of the other
pages every command is read by the command line with all its options and keys, and every program is run.
"""

import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from support.pages import PAGES, ROOT, blocks, commands, make_small, run, words_of, write_domains

import recbole_metarec
from recbole_metarec.cli import main as cli
from recbole_metarec.config import models

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.ipynb"))
PYTHON = [
    (page, text)
    for page in PAGES
    if page.parent.name != "tutorials"
    for kind, file, text in blocks(page)
    if kind == "python" and not file
]
EMBEDDED = ["ml-drama", "ml-action", "ml-comedy", "ml-thriller"]
OTHERS = ["mine", "theirs"]
MANY = ["Scientific", "Office", "Tools", "Toys", "Yelp"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Runs are small, and the domains that the pages name are here."""
    make_small(monkeypatch.setattr)
    monkeypatch.setattr(models, "_REGISTERED", {})
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    write_domains(tmp_path / "dataset", EMBEDDED + OTHERS)
    write_domains(tmp_path / "data", MANY)


def test_what_is_made_is_as_the_code_says():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    stale = [str(file) for file, text in reference.made().items() if file.read_text(encoding="utf-8") != text]
    assert stale == [], "run python docs/make_reference.py"


def test_every_command_on_a_page_can_be_given(small, monkeypatch):
    """With its options and keys; no command does anything here."""
    given = []
    group = cli._commands
    known = type(group).get_command

    def deaf(self, context, name):
        command = known(self, context, name)
        monkeypatch.setattr(command, "callback", lambda **options: given.append(name))
        return command

    monkeypatch.setattr(type(group), "get_command", deaf)
    _save_files(DOCS / "tutorials" / "own-model.md")
    _save_files(DOCS / "guides" / "own-transfer.md")
    for line in (line for page in PAGES for line in commands(page)):
        assert cli.main(words_of(line)) == 0, line
    assert set(given) == set(cli.COMMANDS) and len(given) > 80


def _save_files(page: Path) -> None:
    for _, name, text in blocks(page):
        if name:
            Path(name).write_text(text)
            sys.modules.pop(Path(name).stem, None)


@pytest.mark.parametrize(
    ("page", "program"), PYTHON, ids=[f"{page.stem}-{number}" for number, (page, _) in enumerate(PYTHON)]
)
def test_the_programs_on_a_page_run(page, program, small, capsys):
    if "newest" in program:
        run("recbole-metarec train --model LRURec --dataset ml-drama --data_path dataset")
    names = {"alice": "ml-drama-u1", "mine-article": "mine-", '"mine"': '"mine"'}
    for said, here in names.items():
        program = program.replace(said, here)
    exec(compile(program, page.name, "exec"), {"__name__": page.stem})
    printed = capsys.readouterr().out
    assert printed.count("\n") > 1 or "print(" not in program


SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from support.pages import make_small, run, write_domains
make_small()
write_domains(Path("dataset"), {EMBEDDED!r})
get_ipython().system = lambda line, run=run: print(run(line))  # cells may use the name
"""
# tutorial -> what the outputs of its cells hold, in this order
SHOWN = {
    "compare-models": [
        r"LRURec +\d +\d +0\.\d{4}.*Pop +\d", "LRURec", "the best of 2 trials", "LRURec",
        r"NDCG@10 0\.\d{4}, Recall@10",
    ],
    "does-transfer-pay": [
        "relatedness  unchanged", "what the sources add on test", r"sim-source-3 +-?\d\.\d+ +\d\.\d+",
        "cost: ", "cost: ", "cost: ",
    ],
    "own-logs": [
        "1,611 +200 +80", "3,275 +400 +100", "shared with", "the same without transfer.*transfer guard",
        r"1\tmine-article\d+\t\d+\.\d+\n2", r"1\tmine-article", "^$", r"\[\('mine-article\d+', \d",
    ],
    "own-model": [
        "Writing my_model.py", "Writing MyModel.yaml", r"^MyModel +\d", r"^MyModel +\d",
        "MyModel on ml-drama: the best of 2 trials", "cost: ", r"^MyModel +\d", "Writing my_metarec.py", "cost: ",
    ],
}  # fmt: skip


def test_the_tutorials_run_as_notebooks(tmp_path, monkeypatch):
    """In one kernel, one after the other: to start one takes as long as a tutorial."""
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebooks = {file.stem: nbformat.read(file, as_version=4) for file in TUTORIALS}
    assert notebooks.keys() == SHOWN.keys()
    whole = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SETUP)])
    whole.cells += [cell for notebook in notebooks.values() for cell in notebook.cells]
    NotebookClient(whole, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for name, notebook in notebooks.items():
        printed = "\n".join(_printed(cell) for cell in notebook.cells if cell.cell_type == "code")
        assert re.search(".*?".join(SHOWN[name]), printed, re.DOTALL | re.MULTILINE), printed


def _printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def test_what_a_page_links_to_is_there():
    """Also where the site is not built: files, and the headings in them."""
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith(("http://", "https://")):
                file, _, heading = target.partition("#")
                aim = (page.parent / file).resolve() if file else page
                if not aim.exists() or (heading and heading not in _headings(aim)):
                    broken.append(f"{page.name}: {target}")
    assert broken == []


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == recbole_metarec.__version__ and len(cited["references"]) == 2


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
