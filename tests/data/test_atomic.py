"""Every malformed file is refused with its line; every accepted one means to RecBole what it says."""

import random
import time
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_metarec.data.atomic import (
    READ_AS_MISSING,
    check_inter_file,
    history_ranks,
    write_ranked_copy,
)
from recbole_metarec.errors import DataError

HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"
ROWS = b"u1\ti1\t1\nu1\ti2\t2\nu2\ti1\t3\n"


def write(folder, content, name="D"):
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def complaint(path, **options):
    with pytest.raises(DataError) as caught:
        check_inter_file(path, **options)
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
    "column twice": (HEADER.replace(b"item_id", b"user_id") + ROWS, 1, "'user_id' stands twice", "rename"),
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
    plain = check_inter_file(write(tmp_path, HEADER + ROWS))
    forms = [
        (HEADER + ROWS)[:-1],
        (HEADER + ROWS).replace(b"\n", b"\r\n"),
        (HEADER + ROWS).replace(b"\n", b"\r"),
        HEADER + ROWS.replace(b"\n", b"\n\n") + b"\n\n",
        HEADER + ROWS.replace(b"2\n", b"2.0e0\n"),
    ]
    assert [check_inter_file(write(tmp_path, form)) for form in forms] == [plain] * len(forms)
    commas = write(tmp_path, (HEADER + ROWS).replace(b"\t", b","))
    assert check_inter_file(commas, separator=",") == plain
    wide = write(tmp_path, (HEADER + ROWS).decode().encode("utf-16"))
    assert check_inter_file(wide, encoding="utf-16") == plain
    other = write(tmp_path, (HEADER + ROWS).replace(b"user_id", b"u").replace(b"timestamp", b"t"))
    assert check_inter_file(other, user_field="u", time_field="t") == plain


def test_ids_read_as_missing_are_those_of_pandas(tmp_path):
    from pandas._libs.parsers import STR_NA_VALUES

    assert {word.decode() for word in READ_AS_MISSING} == STR_NA_VALUES - {""}


def read_with_recbole(folder, name="D"):
    from recbole.config import Config
    from recbole.data.dataset import Dataset

    columns = ["user_id", "item_id", "timestamp"]
    return Dataset(
        Config(
            model="SASRec",
            dataset=name,
            config_dict={
                "data_path": str(folder),
                "load_col": {"inter": columns},
                "normalize_all": False,
                "train_neg_sample_args": None,
                "show_progress": False,
                "state": "ERROR",
            },
        )
    )


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b"\n\n"])
def test_accepted_line_ends_are_read_by_recbole_as_counted(line_end, tmp_path):
    path = write(
        tmp_path,
        (HEADER + ROWS)[:-1].replace(b"\n", line_end)
        if line_end != b"\n\n"
        else HEADER + ROWS[:-1].replace(b"\n", line_end),
    )
    summary, dataset = check_inter_file(path), read_with_recbole(tmp_path)
    assert (
        (dataset.inter_num, dataset.user_num - 1, dataset.item_num - 1)
        == (summary.events, summary.users, summary.items)
        == (3, 2, 2)
    )
    assert dataset.inter_feat["timestamp"].tolist() == [1, 2, 3]


def slow_orders(users, values):
    """Row numbers by user in order of value, then of the file, one user after the other."""
    orders = {}
    for row, user in enumerate(users):
        orders.setdefault(user, []).append(row)
    return {user: sorted(rows, key=lambda row: (values[row], row)) for user, rows in orders.items()}


def slow_summary(users, items, times):
    exact = slow_orders(users, [Decimal(t) for t in times])
    stored = [np.float32(float(t)) for t in times]
    coarse = slow_orders(users, stored)
    neighbours = [pair for rows in exact.values() for pair in pairwise(rows)]
    same = [Decimal(times[a]) == Decimal(times[b]) for a, b in neighbours]
    return {
        "events": len(users),
        "users": len(set(users)),
        "items": len(set(items)),
        "duplicates": len(users) - len({(u, i, Decimal(t)) for u, i, t in zip(users, items, times)}),
        "time_ties": sum(same),
        "moved_float32": sum(a != b for user in exact for a, b in zip(exact[user], coarse[user])),
        "last_moved_float32": sum(exact[user][-1] != coarse[user][-1] for user in exact),
    }


def some_events(rng, kind, n=300):
    clock = {
        "ranks": lambda: str(rng.randrange(12)),
        "seconds": lambda: str(rng.randrange(1_400_000_000, 1_400_003_000)),
        "milliseconds": lambda: str(rng.randrange(1_400_000_000_000, 1_400_000_900_000)),
        "nanoseconds": lambda: str(1_400_000_000_000_000_000 + rng.randrange(300)),  # float64 would confuse these
        "fractions": lambda: f"{rng.randrange(3)}.{rng.randrange(4)}{'0' * rng.randrange(3)}",
        "long fractions": lambda: f"1400000000.00000000000{rng.randrange(100, 400)}",
        "exponents": lambda: f"{rng.choice('+-')}{rng.randrange(1, 4)}e{rng.randrange(-2, 3)}",
    }[kind]
    return [(f"u{rng.randrange(60)}", f"é{rng.randrange(20)}", clock()) for _ in range(n)]


KINDS = ["ranks", "seconds", "milliseconds", "nanoseconds", "fractions", "long fractions", "exponents"]


@pytest.mark.parametrize("kind", KINDS)
def test_summary_equals_a_slow_count(kind, tmp_path):
    events = some_events(random.Random(kind), kind)
    path = write(tmp_path, HEADER + "".join("\t".join(e) + "\n" for e in events).encode())
    assert vars(check_inter_file(path)) == slow_summary(*zip(*events))


@pytest.mark.parametrize("kind", KINDS)
def test_ranked_copy_equals_a_slow_ranking_and_keeps_everything_else(kind, tmp_path):
    events = some_events(random.Random(kind), kind)
    header = "rating:float\t" + HEADER.decode()
    write(tmp_path, (header + "".join(f"{n}\t" + "\t".join(e) + "\n" for n, e in enumerate(events))).encode())
    (tmp_path / "D" / "D.item").write_text("item_id:token\n1\n")
    (tmp_path / "D" / "Other.item").write_text("not of this domain")
    new = write_ranked_copy(tmp_path / "D", "D", tmp_path / "new")
    assert new.name == "D" and new.parent.parent == tmp_path / "new"
    assert sorted(p.name for p in new.iterdir()) == ["D.inter", "D.item"]
    users, _, times = zip(*events)
    ranks = {
        row: rank for rows in slow_orders(users, [Decimal(t) for t in times]).values() for rank, row in enumerate(rows)
    }
    lines = (new / "D.inter").read_text().splitlines()
    assert lines[0] == header.strip() + "\toriginal_timestamp:float"
    assert lines[1:] == [f"{n}\t{u}\t{i}\t{ranks[n]}\t{t}" for n, (u, i, t) in enumerate(events)]
    summary = check_inter_file(new / "D.inter")
    assert summary.moved_float32 == summary.time_ties == 0
    again = write_ranked_copy(new, "D", tmp_path / "new")
    assert again != new and (again / "D.inter").read_text().splitlines() == lines


def test_ranked_copy_is_kept_for_the_same_content_only(tmp_path):
    path = write(tmp_path, HEADER + ROWS)
    first = write_ranked_copy(path.parent, "D", tmp_path / "new")
    written = (first / "D.inter").stat().st_mtime_ns
    assert write_ranked_copy(path.parent, "D", tmp_path / "new") == first
    assert (first / "D.inter").stat().st_mtime_ns == written
    path.write_bytes(HEADER + ROWS.replace(b"2\n", b"0\n"))
    other = write_ranked_copy(path.parent, "D", tmp_path / "new")
    assert other != first and (other / "D.inter").read_bytes() != (first / "D.inter").read_bytes()
    path.with_suffix(".item").write_text("item_id:token\n1\n")
    assert write_ranked_copy(path.parent, "D", tmp_path / "new") not in (first, other)


@pytest.mark.parametrize("kind", ["seconds", "milliseconds"])
def test_recbole_reorders_raw_times_and_keeps_ranks(kind, tmp_path):
    from recbole.data.interaction import Interaction

    events = some_events(random.Random(7), kind)
    write(tmp_path, HEADER + "".join("\t".join(e) + "\n" for e in events).encode())
    new = write_ranked_copy(tmp_path / "D", "D", tmp_path / "new")
    users, _, times = zip(*events)
    rows = slow_orders(users, [int(t) for t in times])
    wanted = [row for user in sorted(rows) for row in rows[user]]
    numbers = torch.tensor([sorted(rows).index(user) for user in users])

    def recbole_order(path):
        column = pd.read_csv(path, sep="\t")["timestamp:float"].to_numpy(np.float64)
        rows = torch.arange(len(users))
        table = Interaction({"user_id": numbers, "timestamp": torch.FloatTensor(column), "row": rows})
        table.sort(by=["user_id", "timestamp"])
        return table["row"].tolist()

    raw = recbole_order(tmp_path / "D" / "D.inter")
    moved = check_inter_file(tmp_path / "D" / "D.inter").moved_float32
    assert sum(a != b for a, b in zip(raw, wanted)) == moved > 0
    assert recbole_order(new / "D.inter") == wanted


def test_ranked_copy_keeps_the_encoding_and_leaves_nothing_behind_when_refused(tmp_path):
    path = write(tmp_path, (HEADER + ROWS).decode().encode("utf-16"))
    new = write_ranked_copy(path.parent, "D", tmp_path / "new", encoding="utf-16")
    assert "u2\ti1\t0\t3" in (new / "D.inter").read_bytes().decode("utf-16").splitlines()
    path.write_bytes(HEADER + b"u1\ti1\tnever\n")
    with pytest.raises(DataError, match=":2: "):
        write_ranked_copy(path.parent, "D", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    (tmp_path / "file").write_text("")
    path.write_bytes(HEADER + ROWS)
    with pytest.raises(DataError, match="cannot make this folder"):
        write_ranked_copy(path.parent, "D", tmp_path / "file")


def test_history_ranks_of_users_in_any_order():
    users, times = np.array([2, 0, 2, 1, 0, 2]), np.array([5, 9, 5, 0, 1, 4])
    assert history_ranks(users, times).tolist() == [1, 1, 2, 0, 0, 0]


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
        lambda f: any(x.startswith('"') for x in f),
        lambda f: not f[0],
        lambda f: f[0].encode() in READ_AS_MISSING,
        lambda f: not f[1],
        lambda f: f[1].encode() in READ_AS_MISSING,
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
        events = some_events(rng, "seconds", n=8)
        body = bytearray("".join("\t".join(e) + "\n" for e in events).encode())
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(body))
            damage = [b"", b"\t", b"\n", b"x", b'"', b"\xff", b".", b"-", b" ", b"NA\t"]
            body[at : at + rng.randrange(2)] = rng.choice(damage)
        content = HEADER + bytes(body)
        bad, path = first_bad_line(content), write(tmp_path, content)
        if bad is None:
            check_inter_file(path)
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
            check_inter_file(write(tmp_path, bytes(content)))
        except DataError as error:
            assert "\n" not in str(error) and "; " in str(error)


def test_every_real_domain_passes(data_dir):
    for path in sorted(data_dir.glob("*/*.inter")):
        table = pd.read_csv(path, sep="\t", dtype=str)
        summary = check_inter_file(path)
        assert (summary.events, summary.users, summary.items) == (
            len(table),
            table["user_id:token"].nunique(),
            table["item_id:token"].nunique(),
        )
        assert summary.moved_float32 == 0


def test_large_files_are_checked_in_seconds(tmp_path):
    n = 300_000
    body = "".join(f"u{row % 40_000}\ti{row * 7919 % 20_011}\t{1_400_000_000 + row}\n" for row in range(n))
    path = write(tmp_path, HEADER + body.encode() + b"u1\ti1\n")
    start = time.perf_counter()
    assert complaint(path).startswith(f"{path}:{n + 2}: ")
    path.write_bytes(HEADER + body.encode())
    assert check_inter_file(path).events == n
    assert time.perf_counter() - start < 5  # about 0.5 s; a loop over lines in Python takes several times that


def test_repeated_rows_and_equal_times_are_said(tmp_path):
    path = write(tmp_path, HEADER + b"u\ta\t1\nu\tb\t2\nv\ta\t1\n")
    assert check_inter_file(path).repetitions == ""
    path = write(tmp_path, HEADER + b"u\ta\t1\nu\ta\t1\nu\tb\t1\nv\ta\t1\n")
    assert check_inter_file(path).repetitions == (
        "4 events of 2 users on 2 items in the file; 1 rows repeat an earlier (user, item, time); "
        "2 neighbours in a history share one timestamp, their order is the file's"
    )
