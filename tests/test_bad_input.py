"""The index of bad input: one line that says what is wrong, exit code 2, no traceback, and nothing half-written."""

import re

import pytest
from bad_inputs import AS_SOURCE, AS_TARGET, FILES
from worlds import cluster_histories, write_domain

from recbole_metarec import cli

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    data = folder / "data"
    write_domain(data, "Good", cluster_histories(1, 30, 12, 4, 0.8))
    write_domain(data, "Near", cluster_histories(2, 30, 12, 4, 0.8))
    for name, (content, _, _) in FILES.items():
        write_domain(data, name, []).write_bytes(content)
    return {"data": data}


def content_of(folder) -> dict:
    return {path: path.stat().st_size for path in folder.rglob("*")}


@pytest.fixture()
def refuses(world, capsys, tmp_path):
    def check(words: str, message: str) -> None:
        before = content_of(world["data"])
        code = cli.main(words.split())
        out, err = capsys.readouterr()
        assert code == 2, (code, out, err)
        assert "Traceback" not in out + err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        assert re.match(re.escape(message), err.removeprefix("error: ")), err
        left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
        print("LEFT", left)
        assert content_of(world["data"]) == before

    return check


@pytest.mark.parametrize("fault", FILES)
@pytest.mark.parametrize("command", AS_TARGET)
def test_a_bad_target(command, fault, world, refuses):
    file = world["data"] / fault / f"{fault}.inter"
    _, line, message = FILES[fault]
    refuses(AS_TARGET[command].format(name=fault, data=world["data"]), f"{file}:{line}: {message}")


@pytest.mark.parametrize("fault", FILES)
@pytest.mark.parametrize("command", AS_SOURCE)
def test_a_bad_source(command, fault, world, refuses):
    file = world["data"] / fault / f"{fault}.inter"
    _, line, message = FILES[fault]
    refuses(AS_SOURCE[command].format(name=fault, data=world["data"]), f"{file}:{line}: {message}")
