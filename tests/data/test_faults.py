"""Every malformed file of events is refused with its line and a remedy; harmless forms mean the same."""

import random
import time

import numpy as np
import pandas as pd
import pytest

from recbole_metarec.data.ids import READ_AS_MISSING
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.errors import DataError

HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"
ROWS = b"u1\ti1\t1\nu1\ti2\t2\nu2\ti1\t3\n"


def write(folder, content, name="D"):
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def summary(path, block_bytes=None, **options):
    return read_domain(path, ReadSpec(**options), block_bytes).summary


def complaint(path, **options):
    with pytest.raises(DataError) as caught:
        summary(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


MALFORMED = {
    "empty": (b"", 1, "empty", "write a header"),
    "only blanks": (b"\n  \n", 1, "empty", "write a header"),
    "no rows": (HEADER, 1, "no rows", "one event on each line"),
    "blank first line": (b"\n" + HEADER + ROWS, 1, "first line is blank", "header"),
    "header without types": (b"user_id\titem_id\ttimestamp\n" + ROWS, 1, "'user_id' has no type", "user_id:token"),
    "one type missing": (HEADER.replace(b":float", b"") + ROWS, 1, "'timestamp' has no type", "name:type"),
    "unknown type": (HEADER.replace(b"float", b"flaot") + ROWS, 1, "unknown type 'flaot'", "did you mean float?"),
    "type with a space": (HEADER.replace(b"float", b"float ") + ROWS, 1, "unknown type 'float '", "mean float?"),
    "two colons": (HEADER.replace(b"item_id:", b"item:id:") + ROWS, 1, "unknown type 'id:token'", "types are token"),
    "column twice": (HEADER.replace(b"item_id", b"user_id") + ROWS, 1, "'user_id' appears twice", "rename"),
    "no user": (HEADER.replace(b"user_id", b"userid") + ROWS, 1, "no column user_id", "rename 'userid' to user_id"),
    "no item": (HEADER.replace(b"item_id", b"zzz") + ROWS, 1, "no column item_id", "add the column item_id:token"),
    "no time": (HEADER.replace(b"timestamp", b"when") + ROWS, 1, "no column timestamp", "TIME_FIELD"),
    "time as token": (HEADER.replace(b"float", b"token") + ROWS, 1, "timestamp has the type token", "timestamp:float"),
    "user as float": (HEADER.replace(b"user_id:token", b"user_id:float") + ROWS, 1, "type float", "user_id:token"),
    "commas": ((HEADER + ROWS).replace(b"\t", b","), 1, "separated by a comma, not by a tab", "field_separator"),
    "spaces": ((HEADER + ROWS).replace(b"\t", b" "), 1, "separated by a space, not by a tab", "field_separator"),
    "one column": (b"user_id:token\nu1\n", 1, "single column 'user_id:token'", "write user, item and time"),
    "commas in one row": (HEADER + ROWS + b"u3,i1,4\n", 5, "1 field where the header has 3", "separated by a comma"),
    "too few": (HEADER + b"u1\ti1\t1\nu1\ti2\n" + ROWS, 3, "2 fields where the header has 3", "every column"),
    "too many": (HEADER + ROWS + b"u3\ti1\t4\t\n", 5, "4 fields where the header has 3", "every column"),
    "balancing rows": (HEADER + b"u1\ti1\nu1\ti1\t1\t2\n", 2, "2 fields", "every column"),
    "empty user": (HEADER + ROWS + b"\ti1\t4\n", 5, "user_id is empty", "give every event a user"),
    "empty item": (HEADER + b"u1\t\t4\n" + ROWS, 2, "item_id is empty", "give every event a user and an item"),
    "user called NA": (HEADER + ROWS + b"NA\ti1\t4\n", 5, "user_id 'NA' would be read as missing", "rename"),
    "item called null": (HEADER + ROWS + b"u1\tnull\t4\n", 5, "item_id 'null'", "rename"),
    "no time in a row": (HEADER + ROWS + b"u1\ti1\t\n", 5, "timestamp is empty", "write the time as a number"),
    "below blank lines": (HEADER + b"\n\n" + ROWS + b"\nu1\ti1\tsoon\n", 8, "'soon' is not a finite number", "seconds"),
    "word": (HEADER + b"u1\ti1\tyesterday\n" + ROWS, 2, "timestamp 'yesterday' is not a finite number", "seconds"),
    "nan": (HEADER + ROWS + b"u1\ti1\tnan\n", 5, "'nan' is not a finite number", "write the time as a number"),
    "inf": (HEADER + ROWS + b"u1\ti1\t-inf\n", 5, "'-inf' is not a finite number", "write the time as a number"),
    "overflow": (HEADER + ROWS + b"u1\ti1\t1e999\n", 5, "'1e999' is not a finite number", "number"),
    "underscore": (HEADER + ROWS + b"u1\ti1\t1_000\n", 5, "'1_000' is not a finite number", "number"),
    "not UTF-8": (HEADER + ROWS + b"caf\xe9\ti1\t4\n", 5, "byte 71 of the file is not utf-8", "save the file as UTF-8"),
    "mark at the start": (b"\xef\xbb\xbf" + HEADER + ROWS, 1, "byte order mark", "without one"),
    "zero byte": (HEADER + ROWS + b"u\0\ti1\t4\n", 5, "zero byte", "plain text"),
    "quotes": (HEADER + ROWS + b'"u3"\ti1\t4\n', 5, "quotation mark", "without quotation marks"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file_is_refused_with_its_line_and_a_remedy(case, tmp_path):
    content, line, what, todo = MALFORMED[case]
    path = write(tmp_path, content)
    message = complaint(path)
    assert message.startswith(f"{path}:{line}: ")
    assert what in message and todo in message.partition(": ")[2]
    if b"\n" in content.strip() and case != "only blanks":  # the same line with line ends of another system
        assert complaint(write(tmp_path, content.replace(b"\n", b"\r\n"))).startswith(f"{path}:{line}: ")


def test_missing_file_and_unusable_settings(tmp_path):
    assert "cannot be read" in complaint(tmp_path / "none.inter")
    assert "cannot be read" in complaint(tmp_path)
    path = write(tmp_path, HEADER + ROWS)
    assert "utf-9" in complaint(path, encoding="utf-9")
    assert "field_separator" in complaint(path, separator="::")


def test_harmless_forms_mean_the_same(tmp_path):
    plain = summary(write(tmp_path, HEADER + ROWS))
    forms = [
        (HEADER + ROWS)[:-1],
        (HEADER + ROWS).replace(b"\n", b"\r\n"),
        (HEADER + ROWS).replace(b"\n", b"\r"),
        HEADER + ROWS.replace(b"\n", b"\n\n") + b"\n\n",
        HEADER + ROWS.replace(b"2\n", b"2.0e0\n"),
    ]
    assert [summary(write(tmp_path, form)) for form in forms] == [plain] * len(forms)
    commas = write(tmp_path, (HEADER + ROWS).replace(b"\t", b","))
    assert summary(commas, separator=",") == plain
    wide = write(tmp_path, (HEADER + ROWS).decode().encode("utf-16"))
    assert summary(wide, encoding="utf-16") == plain
    other = write(tmp_path, (HEADER + ROWS).replace(b"user_id", b"u").replace(b"timestamp", b"t"))
    assert summary(other, fields=("u", "item_id", "t")) == plain


def test_ids_read_as_missing_are_those_of_pandas(tmp_path):
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(READ_AS_MISSING) == STR_NA_VALUES - {""}


def first_bad_line(content):
    """A reader written anew, one line at a time: the number of the first line with a fault, or None."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content[: error.start].count(b"\n") + 1
    lines = text.split("\n")
    if not text.strip() or lines[0] != HEADER.decode().strip() or not any(lines[1:]):
        return 1
    faults = [
        lambda f: len(f) != 3,
        lambda f: not f[0],
        lambda f: f[0] in READ_AS_MISSING,
        lambda f: f[0] != f[0].strip(),
        lambda f: f[0].startswith('"'),
        lambda f: not f[1],
        lambda f: f[1] in READ_AS_MISSING,
        lambda f: f[1] != f[1].strip(),
        lambda f: f[1].startswith('"'),
        lambda f: not is_number(f[2]),
    ]
    for fault in faults:  # one kind of fault after the other, as the checks are ordered
        for number, line in enumerate(lines[1:], 2):
            if line and fault(line.split("\t")):
                return number
    return None


def is_number(text):
    try:
        return "_" not in text and text.strip() == text.strip(" ") and np.isfinite(float(text))
    except ValueError:
        return False


def test_random_damage_is_found_where_a_slow_reader_finds_it(tmp_path):
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        events = [(f"u{rng.randrange(9)}", f"é{rng.randrange(5)}", str(rng.randrange(99))) for _ in range(8)]
        body = bytearray("".join("\t".join(e) + "\n" for e in events).encode())
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(body))
            damage = [b"", b"\t", b"\n", b"x", b'"', b"\xff", b".", b"-", b" ", b"NA\t"]
            body[at : at + rng.randrange(2)] = rng.choice(damage)
        content = HEADER + bytes(body) + b"\n"  # one block, so that a later fault may be met first
        bad, path = first_bad_line(content), write(tmp_path, content)
        if bad is None:
            summary(path)
        else:
            refused += 1
            assert complaint(path).startswith(f"{path}:{bad}: "), content
    assert 100 < refused < 350


def test_no_damage_ends_in_another_exception(tmp_path):
    rng = random.Random(1)
    for _ in range(300):
        content = bytearray(HEADER + ROWS)
        for _ in range(rng.randrange(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            summary(write(tmp_path, bytes(content)))
        except DataError as error:
            assert "\n" not in str(error) and "; " in str(error)


def test_every_real_domain_passes(data_dir):
    for path in sorted(data_dir.glob("*/*.inter")):
        table = pd.read_csv(path, sep="\t", dtype=str)
        found = summary(path)
        assert (found.events, found.users, found.items) == (
            len(table),
            table["user_id:token"].nunique(),
            table["item_id:token"].nunique(),
        )
        assert found.moved_float32 == 0


def test_large_files_are_checked_in_seconds(tmp_path):
    n = 300_000
    body = "".join(f"u{row % 40_000}\ti{row * 7919 % 20_011}\t{1_400_000_000 + row}\n" for row in range(n))
    path = write(tmp_path, HEADER + body.encode() + b"u1\ti1\n")
    start = time.perf_counter()
    assert complaint(path).startswith(f"{path}:{n + 2}: ")
    path.write_bytes(HEADER + body.encode())
    assert summary(path).events == n
    assert time.perf_counter() - start < 5  # about 0.5 s; a loop over lines in Python takes several times that
