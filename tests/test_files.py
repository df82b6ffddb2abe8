"""Files are written whole or not at all, and a failure says what can be done about it."""

import os

import pytest

from recbole_metarec.data.files import write_atomically
from recbole_metarec.errors import DataError


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
