"""Commands whose runs and trials are kept on a PostgreSQL server: the password is nobody's but the server's."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from support.postgres import PASSWORD
from support.worlds import TINY, write_shop

from recbole_metarec.cli import main as cli
from recbole_metarec.errors import without_passwords

pytestmark = pytest.mark.usefixtures("empty_cache")


def run(*words: str) -> tuple[int, str]:
    """Exit code, and all that was printed."""
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        return cli.main(list(words)), said.getvalue()


def holders(folder: Path) -> list[Path]:
    """Files with the password in them."""
    return [file for file in folder.rglob("*") if file.is_file() and PASSWORD.encode() in file.read_bytes()]


def test_runs_and_trials_on_a_server_and_its_password_nowhere_else(postgres, tmp_path, forked_runs):
    """One database holds both; what is printed can be typed again where PGPASSWORD is set."""
    place = postgres.new_database()
    name, shown = place.rpartition("/")[2], without_passwords(place)
    keys = {**TINY, "epochs": 1, "state": "INFO", "device": "cpu"}
    keys = {key: value for key, value in keys.items() if key not in ("seed", "vq_heads", "learning_rate")}
    words = ["--dataset", "Target", "--data_path", str(write_shop(tmp_path / "shops"))]
    words += [f"--{key}={value}" for key, value in keys.items()]
    code, said = run("tune", "--model", "LRURec", "--trials", "1", "--storage", place, *words)
    assert code == 0 and f" in {shown}: " in said and f"--tuned={shown}" in said and PASSWORD not in said
    compare = ["leaderboard", "--models", "LRURec", "--seeds", "1", "--store", place, f"--tuned={place}", *words]
    code, said = run(*compare)
    assert code == 0 and "LRURec: best of 1 trials" in said and PASSWORD not in said
    code, said = run(*compare)
    assert code == 0 and said.count(f"1 of 1 runs are done already: {shown}") == 1 and PASSWORD not in said
    assert len(list(tmp_path.glob("saved/leaderboard/*/*/metrics.json"))) == 1
    assert holders(tmp_path) == []
    tables = postgres.execute(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {"runs", "studies"} <= {table for (table,) in tables}
    rows = [row for (table,) in tables for row in postgres.execute(name, f"SELECT {table}::text FROM {table}")]
    assert len(rows) > 8 and not any(PASSWORD in text for (text,) in rows)


@pytest.mark.parametrize("option", ["--store", "--tuned"])
def test_a_wrong_password_is_one_line_and_nothing_is_left(postgres, tmp_path_factory, refused, option):
    shops = write_shop(tmp_path_factory.mktemp("shops"))
    place = postgres.url("postgres", "not-the-right-one")
    words = ["leaderboard", "--dataset", "Target", "--data_path", str(shops), "--models", "Pop", f"{option}={place}"]
    refused(words, f"{without_passwords(place)}: connection failed: ")
    refused([*words, f"{option}={place}?"], f"{option}: given twice, as {without_passwords(place)} and as ")
