"""Raw text files, plain, gzipped or zipped, as blocks of whole lines that know their line numbers.

Only a few blocks are in memory at a time. A thread reads and unpacks the next one while the last one is parsed.
"""

import gzip
import re
import zipfile
import zlib
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
from recbole_metarec.errors import DataError
from recbole_metarec.files import cache_dir

BLOCK_BYTES = 16 << 20
LONGEST_RECORD = 256 << 20
_GZIP, _ZIP, _BOM = b"\x1f\x8b", b"PK\x03\x04", b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole lines of a file. line: the number of the first one, counted from 1."""

    data: bytes
    line: int


def read_blocks(
    path: Path, member: str = "", quoted_by: str = "", show_progress: bool = False, size: int = BLOCK_BYTES
) -> Iterator[Block]:
    """The lines of a file in blocks of about ``size`` bytes.

    member: how the name ends of the file to read, if ``path`` is a zip archive. quoted_by: the separator of fields that
    may be quoted, so that no block ends at a line end within such a field; "" if none may.
    A byte order mark is dropped.
    Raises DataError for a file that cannot be read or unpacked, naming the last line that could.
    """
    with _opened(path, member) as (stream, raw), _progress(path, show_progress) as bar:
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
    with _opened(path, member) as (stream, _):
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


def members(path: Path) -> list[str]:
    """The names of the files in a zip archive; ``[]`` for any other file."""
    try:
        with open(path, "rb") as file:
            return zipfile.ZipFile(file).namelist() if file.read(4) == _ZIP else []
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is no complete zip archive ({error}); {_again(path)}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The unpacked stream, and the file itself, whose position tells how far the stream is."""
    inside = [name for name in members(path) if name.endswith(member) and not name.endswith("/")]
    try:
        with open(path, "rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            if start == _ZIP:
                if len(inside) != 1:
                    raise DataError(
                        f"{path}: the archive holds {len(inside)} files *{member}, not one; unpack it and give the file"
                    )
                with zipfile.ZipFile(raw) as archive, archive.open(inside[0]) as stream:
                    yield stream, raw
            elif start[:2] == _GZIP:
                with gzip.open(raw) as stream:
                    yield stream, raw
            elif path.suffix == ".gz" and start:
                raise DataError(f"{path}:1: this is not a gzip file (it starts with {start!r}); {_again(path)}")
            else:
                yield raw, raw
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


@contextmanager
def _progress(path: Path, show: bool) -> Iterator[tqdm]:
    # disable=None: no bar where nobody watches, such as in a log file
    settings = {"unit": "B", "unit_scale": True, "leave": False, "disable": None if show else True}
    with tqdm(total=path.stat().st_size, desc=path.name, **settings) as bar:
        yield bar


def _cut(path: Path, stream: BinaryIO, quoted_by: str, size: int) -> Iterator[Block]:
    line, rest = 1, b""
    while True:
        data = _read(path, stream, size, line + rest.count(b"\n"))
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


def _read(path: Path, stream: BinaryIO, size: int, line: int) -> bytes:
    """Up to ``size`` bytes; ``line`` is where the reading is, for messages."""
    try:
        return stream.read(size)
    except EOFError:
        fail(path, line, "the compressed file ends in the middle", _again(path))
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        fail(path, line, f"the compressed file is damaged from here on ({error})", _again(path))


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


def _again(path: Path) -> str:
    """What to do about a damaged file; one in the cache would be used again."""
    if path.is_relative_to(cache_dir()):
        return f"the download was cut off or damaged, so delete {path} and repeat the command"
    return "the download was cut off or damaged, so fetch the file again"


def _last_end(data: bytes, quoted_by: str) -> int:
    """The offset after the last line end that is not in a quoted field; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    fields = _quoted_fields(quoted_by).finditer(data) if quoted_by and b'"' in data else ()
    for last in deque(fields, maxlen=1):
        if last.start() < end <= last.end():
            end = data.rfind(b"\n", 0, last.start()) + 1
    return end
