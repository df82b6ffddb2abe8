"""Files are written whole or not at all, a failure says what can be done about it, and locks keep others out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recbole_metarec.errors import DataError
from recbole_metarec.files import data_fingerprint, locked, no_empty_file_left, write_atomically, write_json


@pytest.mark.parametrize(
    ("given", "advice"), [({}, "set METAREC_CACHE"), ({"remedy": "choose another place"}, "choose another place")]
)
def test_a_failure_keeps_the_old_file_and_gives_the_remedy(tmp_path, given, advice):
    def full_disk():
        yield b"half of the new"
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "a", [b"o", b"ld"])
    with pytest.raises(DataError, match=rf"a: cannot be written \(No space left on device\); .*{advice}"):
        write_atomically(tmp_path / "a", full_disk(), **given)
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_an_empty_file_goes_with_the_error_that_came_after_it_and_no_other_does(tmp_path):
    new, full, old = (tmp_path / name for name in ("new", "full", "old"))
    old.touch()
    for path, content in ((new, ""), (full, "x"), (old, "")):
        with pytest.raises(KeyboardInterrupt), no_empty_file_left(path):
            path.write_text(content)
            raise KeyboardInterrupt
    assert [path.exists() for path in (new, full, old)] == [False, True, True]
    with pytest.raises(ZeroDivisionError), no_empty_file_left(None):  # a database that is no file
        raise ZeroDivisionError
    with no_empty_file_left(new):
        new.touch()
    assert new.exists()


def test_json_knows_no_infinity_and_no_numpy(tmp_path):
    write_json(tmp_path / "a", {1: np.float32(0.5), "b": (np.int64(3), float("nan"), np.bool_(True), np.str_("x"))})
    assert json.loads((tmp_path / "a").read_text()) == {"1": 0.5, "b": [3, None, True, "x"]}


def test_a_fingerprint_is_of_contents_in_their_order(tmp_path):
    for name, content in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "xy"), ("e", "")):
        (tmp_path / name).write_text(content)
    prints = {word: data_fingerprint([tmp_path / name for name in word]) for word in ("ab", "cb", "ba", "de", "d")}
    assert prints["ab"] == prints["cb"] and len(set(prints.values())) == 4


_START = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
"""
_COUNT = f"""{_START}
from recbole_metarec.files import locked
file, lock = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(40):
    with locked(lock) as alone:
        assert alone
        file.write_text(str(int(file.read_text()) + 1))
"""
_HOLD = f"""{_START}
import time
from recbole_metarec.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_processes_under_one_lock_lose_no_count_and_leave_no_lock_file(tmp_path):
    count, lock = tmp_path / "count", tmp_path / "new" / "lock"
    count.write_text("0")
    words = [sys.executable, "-c", _COUNT, str(count), str(lock)]
    assert [process.wait(120) for process in [subprocess.Popen(words) for _ in range(3)]] == [0] * 3
    assert count.read_text() == "120" and not lock.exists()


def test_a_lock_is_free_again_when_its_process_is_killed(tmp_path):
    words = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with locked(tmp_path / "lock", seconds=0) as alone:
            assert not alone
        assert (tmp_path / "lock").exists()
        holder.kill()
    with locked(tmp_path / "lock", seconds=0) as alone:
        assert alone
        with locked(tmp_path / "lock", seconds=0) as twice:
            assert not twice
    assert not (tmp_path / "lock").exists()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="lock: cannot be locked"), locked(tmp_path / "file" / "lock"):
        pass
