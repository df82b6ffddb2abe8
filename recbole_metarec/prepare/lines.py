"""Raw text files, plain or packed, as blocks of whole lines that know their line numbers.

Only a few blocks are in memory at a time. A thread reads and unpacks the next one while the last one is parsed.
"""

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from recbole_metarec.data.faults import fail
from recbole_metarec.prepare.containers import opened, reading

BLOCK_BYTES = 16 << 20
LONGEST_RECORD = 256 << 20
_MOST_FIELDS = 1 << 16  # of the last line, which may be cut anywhere
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole lines of a file. line: the number of the first one, counted from 1."""

    data: bytes
    line: int


def read_blocks(
    path: Path,
    member: str = "",
    quoted_by: str = "",
    show_progress: bool = False,
    size: int = BLOCK_BYTES,
    *,
    encoding: str = "",
) -> Iterator[Block]:
    """The lines of a file in blocks of about ``size`` bytes.

    member: how the name ends of the file to read, if ``path`` is a zip archive. quoted_by: the separator of fields that
    may be quoted, so that no block ends at a line end within such a field; "" if none may.
    A byte order mark is dropped. encoding: of a file that is not UTF-8; UTF-16 with its mark is read as it is.
    To be closed where it is not read to its end: a thread waits for the next request.
    Raises DataError for a file that cannot be read or unpacked, naming the last line that could.
    """
    with opened(path, member, encoding) as (stream, raw), _progress(path, show_progress) as bar:
        blocks = _cut(path, stream, quoted_by, size)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, blocks, None)
            while (block := waiting.result()) is not None:
                waiting = pool.submit(next, blocks, None)
                bar.update(raw.tell() - bar.n)
                yield block


def first_lines(path: Path, member: str = "", size: int = 1 << 16) -> list[bytes]:
    """The whole lines, without their ends, among the first bytes of a file; at least one.

    Raises DataError for an empty file and as ``read_blocks`` does.
    """
    with opened(path, member) as (stream, _):
        block = next(_cut(path, stream, "", size), None)
    if block is None or not block.data.strip():
        fail(path, 1, "the file is empty", "give a file with one event on each line")
    return block.data.splitlines()


def split_records(data: bytes, quoted_by: str) -> list[bytes]:
    """Lines with their ends, as ``read_blocks`` understands them: a line end in a quoted field ends no line."""
    if not quoted_by or b'"' not in data:
        return _pieces(data, data)
    return _pieces(data, _quoted_fields(quoted_by).sub(lambda field: field[0].replace(b"\n", b" "), data))


def is_open(record: bytes, quoted_by: str) -> bool:
    """Whether a quoted field at the end of a record is not closed."""
    return any(field["closed"] is None for field in _quoted_fields(quoted_by).finditer(record))


@contextmanager
def _progress(path: Path, show: bool) -> Iterator[tqdm]:
    # disable=None: no bar where nobody watches, such as in a log file
    settings = {"unit": "B", "unit_scale": True, "leave": False, "disable": None if show else True}
    with tqdm(total=path.stat().st_size, desc=path.name, **settings) as bar:
        yield bar


def _cut(path: Path, stream: BinaryIO, quoted_by: str, size: int) -> Iterator[Block]:
    line, rest = 1, b""
    while True:
        with reading(path, line + rest.count(b"\n")):
            data = stream.read(size)
        if line == 1 and not rest:
            data = data.removeprefix(_BOM)
        rest += data
        end = _last_end(rest, quoted_by) if data else len(rest)
        if end:
            block, rest = Block(rest[:end], line), rest[end:]
            line += block.data.count(b"\n")
            yield block
        elif len(rest) > LONGEST_RECORD:
            what = "a quotation mark is opened here or later and never closed" if quoted_by else "a line without an end"
            fail(path, line, what, "check that this is the right file, or write it anew")
        if not data:
            return


def _pieces(data: bytes, shape: bytes) -> list[bytes]:
    """The parts of ``data`` that end where ``shape``, of the same length, has a line end."""
    pieces, start = [], 0
    while start < len(data):
        end = shape.find(b"\n", start) + 1 or len(data)
        pieces.append(data[start:end])
        start = end
    return pieces


@cache
def _quoted_fields(separator: str) -> re.Pattern:
    """Quoted fields: a mark in the middle of a field, such as that of inches, opens none (RFC 4180, section 2)."""
    # a pattern that starts with the mark itself is searched for many times faster
    at_start = rb'"(?<![^\n' + re.escape(separator.encode()) + rb']")'
    return re.compile(at_start + rb'[^"]*(?:""[^"]*)*(?:(?P<closed>")|\Z)')


def _last_end(data: bytes, quoted_by: str) -> int:
    """The offset after the last line end that is not in a quoted field; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    fields = _quoted_fields(quoted_by).finditer(data) if quoted_by and b'"' in data else ()
    for field in reversed(deque(fields, maxlen=_MOST_FIELDS)):
        if field.end() < end:
            break
        if field.start() < end:
            end = data.rfind(b"\n", 0, field.start()) + 1
    return end
