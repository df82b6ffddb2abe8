"""Files are written whole or not at all, and a failure says what can be done about it."""

import os

import pytest

from recbole_metarec.errors import DataError
from recbole_metarec.files import no_empty_file_left, write_atomically


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
