"""The version of the code follows what decides numbers, and nothing else."""

import pytest

from recbole_metarec.errors import DataError
from recbole_metarec.runs import code_version as module
from recbole_metarec.runs.code_version import code_version, deciding_files, syntax

SOURCE = '''"""A module."""
import math

def area(radius, scale=1.0):
    """Of a circle."""
    names = {"a": 1, "b": [2, 3]}
    return math.pi * radius**2 * scale + len(names)
'''
KEY = "a: 1  # (int, >= 0; machine) A number.\n"


def test_comments_docstrings_and_formatting_change_nothing():
    same = [
        SOURCE.replace("A module", "Another text"),
        SOURCE.replace("Of a circle.", "Of a circle.\n\n    In square metres."),
        SOURCE.replace('    """Of a circle."""\n', ""),
        SOURCE.replace("import math", "# numbers\nimport math  # the pi\n\n"),
        SOURCE.replace("{", "{\n").replace("[2, 3]", "[\n 2,\n 3,\n ]"),
        SOURCE.replace("\n", "\r\n"),
        SOURCE.replace("return math.pi * radius**2 * scale", "return (math.pi * (radius ** 2) * scale)"),
    ]
    assert {syntax(text) for text in same} == {syntax(SOURCE)}


@pytest.mark.parametrize(
    "old, new",
    [("**2", "**3"), ("* scale", "/ scale"), ("scale=1.0", "scale=1"), ("scale=1.0", "scale=None"), ("2, 3", "3, 2"),
     ("import math", "import cmath as math"), ("+ len", "- len"), ("    return", "    radius\n    return"),
     ("names = ", "names: dict = "), ('"a"', 'b"a"'), ("def area", "async def area")],
)  # fmt: skip
def test_whatever_is_run_changes_it(old, new):
    assert old in SOURCE and syntax(SOURCE.replace(old, new)) != syntax(SOURCE)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one file for each name that matters, and its default values."""
    names = [
        "model/lru.py",
        "evaluation/ranking.py",
        "baselines/stan.py",
        "reports/html.py",
        "cli/x.py",
        "jobs/pool.py",
        "tables.py",
        "config/suggestions.py",
        "config/sources.py",
    ]
    for name in [f"recbole_metarec/{name}" for name in names]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SOURCE)
    for name in ("properties/search/LRURec.yaml", "properties/model/LRURec.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(KEY)
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "recbole_metarec")
    monkeypatch.setattr(module, "resource_dir", lambda name: tmp_path / name)
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))
    module._parsed_before.cache_clear()
    yield tmp_path
    module._parsed_before.cache_clear()


@pytest.mark.parametrize("name", ["model/lru", "evaluation/ranking", "baselines/stan", "config/sources"])
def test_a_file_that_decides_numbers_counts_but_for_its_comments(package, name):
    file, before = package / f"recbole_metarec/{name}.py", code_version()
    file.write_text(SOURCE.replace("Of a circle", "Said better") + "# the end\n")
    assert code_version() == before
    file.write_text(SOURCE.replace("**2", "**3"))
    assert code_version() != before
    file.write_text(SOURCE)
    assert code_version() == before


@pytest.mark.parametrize("name", ["reports/html", "cli/x", "jobs/pool", "tables", "config/suggestions"])
def test_a_file_that_only_shows_or_starts_runs_does_not_count(package, name):
    before = code_version()
    (package / f"recbole_metarec/{name}.py").write_text("x = 2\n")
    assert code_version() == before


def test_a_key_s_sentence_and_what_is_searched_do_not_count(package):
    file, before = package / "properties/model/LRURec.yaml", code_version()
    file.write_text("# Keys.\na:   1 # (int, >= 0; machine) Better said.\n")
    (package / "properties/search/LRURec.yaml").write_text("a: 2\n")
    assert code_version() == before


@pytest.mark.parametrize("old, new", [("1", "2"), ("a:", "b:"), ("int", "float"), (">= 0", "> 0"), ("machine", "data")])
def test_a_key_s_default_type_range_and_scopes_count(package, old, new):
    """A scope decides which reader reads the data, what is a baseline's default, and what the identity leaves out."""
    file, before = package / "properties/model/LRURec.yaml", code_version()
    file.write_text(KEY.replace(old, new))
    assert code_version() != before


def test_a_new_file_counts(package):
    before = code_version()
    (package / "recbole_metarec/model/new.py").write_text("")
    assert code_version() != before


def test_a_models_own_source_counts(package, tmp_path):
    file, without = tmp_path / "my_model.py", code_version()
    file.write_text(SOURCE)
    before = code_version([file])
    file.write_text(f"# mine\n{SOURCE}")
    assert code_version([file]) == before != without
    file.write_text(SOURCE.replace("1.0", "2.0"))
    assert code_version([file]) != before
    file.write_text("def broken(:\n")
    with pytest.raises(DataError, match=r"my_model\.py: cannot be read as Python"):
        code_version([file])


def test_a_file_is_parsed_once_in_all_processes(package, monkeypatch):
    before, parsed = code_version(), []
    monkeypatch.setattr(module, "syntax", lambda content: parsed.append(content) or syntax(content))
    module._parsed_before.cache_clear()  # as the next process starts
    assert code_version() == before and parsed == []
    (package / "recbole_metarec/model/lru.py").write_text("x = 1\n")
    after = code_version()
    assert parsed == [b"x = 1\n"]
    cache = package / "cache" / module._CACHE
    cache.write_text("nonsense")
    module._parsed_before.cache_clear()
    assert code_version() == after and len(parsed) > 2
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.touch()  # no folder can be made there
    module._parsed_before.cache_clear()
    assert code_version() == after


def test_every_exception_names_something_that_is_there():
    for name in module._DECIDES_NOTHING:
        assert (module._PACKAGE / name).exists(), name
    names = {name for name, _ in deciding_files()}
    assert {
        "model/lru.py",
        "baselines/stan.py",
        "trainer/meta_step.py",
        "evaluation/ranking.py",
        "properties/model/LRURec.yaml",
    } <= names
    assert not [name for name in names if "search/" in name or name.startswith("reports/")]
