"""The shipped files are found in a clone, in an editable install and in a wheel; the wheel carries all of them."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import recbole_metarec
from recbole_metarec.config.resources import resource_dir

ROOT = Path(__file__).resolve().parents[1]
FIND = """
from recbole_metarec.config.resources import resource_dir
print(*map(resource_dir, ("properties", "dataset_configs")), sep="\\n")
"""


def shipped() -> set[str]:
    """Every YAML file of the clone and the parts of the page, by the name that each has inside the package."""
    return {
        str(path.relative_to(ROOT))
        for name in ("properties", "dataset_configs")
        for path in (ROOT / name).rglob("*.yaml")
    } | {f"reports/page/page.{kind}" for kind in ("html", "css", "js")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel as pip builds it from a copy of the clone, so that no build folder is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = folder / "clone"
    clone.mkdir()
    for name in ("recbole_metarec", "properties", "dataset_configs", "setup.cfg", "pyproject.toml", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(clone)], check=True)
    subprocess.run(["touch", str(clone / "README.md")], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(clone)], check=True)
    return next(folder.glob("*.whl"))


def test_wheel_carries_every_file_and_module(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"recbole_metarec/{name}" for name in shipped()} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "recbole_metarec").rglob("*.py")}
    assert modules <= names, f"subpackage missing in setup.cfg: {sorted(modules - names)}"
    assert not [name for name in names if name.startswith("tests")]


def test_wheel_finds_its_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    found = run_in(tmp_path / "site", tmp_path)
    assert [Path(line).relative_to(tmp_path / "site").as_posix() for line in found] == [
        "recbole_metarec/properties",
        "recbole_metarec/dataset_configs",
    ]
    for folder in map(Path, found):
        assert list(folder.rglob("*.yaml"))


def test_clone_finds_its_files(tmp_path):
    assert [Path(line) for line in run_in(ROOT, tmp_path)] == [ROOT / "properties", ROOT / "dataset_configs"]


def test_this_installation_finds_its_files():
    assert (resource_dir("properties") / "overall.yaml").is_file()
    assert list(resource_dir("dataset_configs").glob("*.yaml"))


def test_version_is_a_plain_literal_that_needs_no_import():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["metadata"]["version"] == "attr: recbole_metarec.__version__"
    assert f'__version__ = "{recbole_metarec.__version__}"' in (ROOT / "recbole_metarec" / "__init__.py").read_text()


def run_in(site: Path, cwd: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", FIND], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
