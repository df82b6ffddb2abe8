"""What a raw file is, by its first bytes: text, plain or packed, as a stream of UTF-8; or a line that says what it is.

Files are unpacked until they are text: somebody may have gzipped a gzip file. UTF-16 is recognised by its mark.
"""

import bz2
import codecs
import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from recbole_metarec.data.faults import fail
from recbole_metarec.errors import DataError
from recbole_metarec.files import cache_dir

PARQUET, ARROW, EXCEL = "parquet", "arrow", "excel"
_GZIP, _ZIP, _EMPTY_ZIP = b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06"
_PACKINGS = {_GZIP: gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"]\0\0": lzma.open}
_TABLES = {b"PAR1": PARQUET, b"ARROW1": ARROW}
_UTF16_MARKS = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
_MAC_END = re.compile(rb"\r[^\n]")
_HEAD = 512
_FIRST_LINE = 1 << 16  # bytes, among which the end of the first line is looked for
_WORKBOOK = "xl/workbook.xml"
_OPEN_DOCUMENT = {"mimetype", "content.xml"}
_MAC_FOLDER = "__MACOSX/"  # what macOS adds to an archive, a shadow of every file
_TAR_MARK, _TAR_PLACE = b"ustar", 257
# what is no text: its first bytes -> (what it is, what to do)
_OTHERS = {
    b"(\xb5/\xfd": ("packed by zstd", "unpack it: zstd -d {name}"),
    b"\x04\x22M\x18": ("packed by lz4", "unpack it: lz4 -d {name}"),
    b"\x1f\x9d": ("packed by compress", "unpack it: gunzip {name}"),
    _EMPTY_ZIP: ("a zip archive with nothing in it", "fetch it again, or pack it anew"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it: 7z x {name}"),
    b"Rar!": ("a RAR archive", "unpack it: unrar x {name}"),
    b"SQLite format 3": ("an SQLite database", "export its table: sqlite3 -header -csv {name} 'SELECT * FROM ...'"),
    b"\x89HDF": ("an HDF5 file", "write its table as CSV or Parquet"),
    b"\x80\x02": ("a Python pickle", "write its table as CSV or Parquet; a pickle could run anything when it is read"),
    b"\x80\x03": ("a Python pickle", "write its table as CSV or Parquet; a pickle could run anything when it is read"),
    b"\x80\x04": ("a Python pickle", "write its table as CSV or Parquet; a pickle could run anything when it is read"),
    b"\x80\x05": ("a Python pickle", "write its table as CSV or Parquet; a pickle could run anything when it is read"),
    b"\x93NUMPY": ("a NumPy array", "write it as CSV with a header"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "write it as Parquet, or as an Arrow file"),
    b"FEA1": ("a Feather file of the first version", "write it as Parquet"),
    b"version https://git-lfs": ("a pointer of Git LFS and not the file", "fetch the file: git lfs pull"),
    b"ORC": ("an ORC file", "write it as Parquet"),
    b"Obj\x01": ("an Avro file", "write it as Parquet"),
    b"%PDF": ("a PDF", "give a file of events"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", "save it as CSV UTF-8 in Excel"),
    codecs.BOM_UTF32_LE: ("UTF-32", "save it as UTF-8: iconv -f UTF-32 -t UTF-8 {name} > NEW"),
    codecs.BOM_UTF32_BE: ("UTF-32", "save it as UTF-8: iconv -f UTF-32 -t UTF-8 {name} > NEW"),
}
_JSON_ARRAY = re.compile(rb"\s*\[\s*([\[{]|$)")
_SPREAD_JSON = re.compile(rb"\s*\{\s*[\r\n]")
_PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)


def table_kind(path: Path) -> str:
    """Which kind of file has columns of types: PARQUET, ARROW or EXCEL; "" for any other. Raises DataError."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(_HEAD)
    except OSError as error:
        _fail_unreadable(path, error)
    if head.startswith(_ZIP):
        return EXCEL if _WORKBOOK in members(path) else ""
    return next((kind for mark, kind in _TABLES.items() if head.startswith(mark)), "")


def members(path: Path) -> list[str]:
    """The names of the files in a zip archive; ``[]`` for any other file."""
    try:
        with open(path, "rb") as file:
            names = zipfile.ZipFile(file).namelist() if file.read(4) == _ZIP else []
            return [name for name in names if not name.startswith(_MAC_FOLDER)]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is no complete zip archive ({error}); {again(path)}") from None
    except OSError as error:
        _fail_unreadable(path, error)


@contextmanager
def opened(path: Path, member: str = "", encoding: str = "") -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The text of a file as a stream of bytes, and the file itself, whose position tells how far the stream is.

    member: how the name ends of the file to read, if ``path`` is a zip archive. encoding: of the text, "" for UTF-8.
    Raises DataError for what is no text.
    """
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(open(path, "rb"))
            yield _text(path, _unpacked(path, raw, member, stack), encoding), raw
    except OSError as error:
        _fail_unreadable(path, error)


@contextmanager
def reading(path: Path, line: int) -> Iterator[None]:
    """Within, the errors of a stream of :func:`opened` are DataErrors; ``line`` is the one that is being read."""
    try:
        yield
    except EOFError:
        fail(path, line, "the compressed file ends in the middle", again(path))
    except UnicodeDecodeError as error:
        fail(path, line, f"the file is not {error.encoding} from here on ({error.reason})", "save it as UTF-8")
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        fail(path, line, f"the compressed file is damaged from here on ({error})", again(path))
    except OSError as error:
        if error.errno is not None:
            raise
        fail(path, line, f"the compressed file is damaged from here on ({error})", again(path))


def again(path: Path) -> str:
    """What to do about a damaged file; a file in the cache must be deleted, or it would be used again."""
    if path.is_relative_to(cache_dir()):
        return f"the download was cut off or damaged, so delete {path} and repeat the command"
    return "the download was cut off or damaged, so fetch the file again"


def _unpacked(path: Path, raw: BinaryIO, member: str, stack: ExitStack) -> BinaryIO:
    """The stream below all packings."""
    stream, is_packed = raw, False
    while True:
        head = _peek(path, stream)
        if head.startswith(_ZIP):
            stream = stack.enter_context(_only_member(path, stack.enter_context(zipfile.ZipFile(stream)), member))
        elif opens := next((opens for mark, opens in _PACKINGS.items() if head.startswith(mark)), None):
            stream = stack.enter_context(opens(stream))
        else:
            break
        is_packed = True
    if head[_TAR_PLACE:].startswith(_TAR_MARK):
        _fail_tar(path, stream)
    if path.suffix == ".gz" and head and not is_packed:
        raise DataError(f"{path}:1: this is not a gzip file (it starts with {head[:4]!r}); {again(path)}")
    return stream


def _text(path: Path, stream: BinaryIO, encoding: str) -> BinaryIO:
    """The stream as UTF-8. Raises DataError with what the file is if that is not text, or not one record a line."""
    head = _peek(path, stream)
    for mark, (what, todo) in _OTHERS.items():
        if head.startswith(mark):
            raise DataError(f"{path}: is {what}; {todo.format(name=path.name)}")
    if any(head.startswith(mark) for mark in _TABLES):
        raise DataError(f"{path}: is a packed table; unpack it, and give the file itself")
    if encoding or head.startswith(_UTF16_MARKS):
        decoder = codecs.getincrementaldecoder(encoding or "utf-16")()
        stream = _Changed(stream, lambda data: decoder.decode(data, final=not data).encode("utf-8"))
        head = _peek(path, stream)
    if head.count(0) * 4 > len(head):
        todo = f"save it as UTF-8, for example: iconv -f UTF-16LE -t UTF-8 {path.name} > NEW"
        fail(path, 1, "contains zero bytes, so it is not text, or UTF-16 without a byte order mark", todo)
    text = head.removeprefix(codecs.BOM_UTF8)
    if _PAGE.match(text):
        fail(path, 1, "is a web page and no data", "fetch the file itself; the page may ask to log in first")
    for form, what, program in ((_JSON_ARRAY, "one JSON array", ".[]"), (_SPREAD_JSON, "JSON over several lines", ".")):
        if form.match(text):
            todo = f"write one object a line: jq -c '{program}' {path.name} > NEW.jsonl"
            fail(path, 1, f"the file is {what}", f'{todo} (pandas: to_json(orient="records", lines=True))')
    if _has_mac_ends(path, stream):
        return _Changed(stream, lambda data: data.replace(b"\r", b"\n"))
    return stream


def _has_mac_ends(path: Path, stream: BinaryIO) -> bool:
    """Whether lines end with a carriage return alone."""
    with reading(path, 1):
        start = stream.peek(_FIRST_LINE)
    return b"\n" not in start and _MAC_END.search(start) is not None


class _Changed:
    """A stream whose bytes are changed on the way; the change may keep some for the next call, until it gets none."""

    def __init__(self, stream: BinaryIO, change: Callable[[bytes], bytes]):
        self._stream, self._change, self._waiting = stream, change, b""

    def peek(self, size: int) -> bytes:
        """About ``size`` bytes or less, which the next ``read`` gives again."""
        self._waiting = self._waiting or self.read(max(size, _FIRST_LINE))
        return self._waiting

    def read(self, size: int) -> bytes:
        """About ``size`` bytes; none only at the end."""
        if self._waiting:
            waiting, self._waiting = self._waiting, b""
            return waiting
        while True:
            data = self._stream.read(size)
            changed = self._change(data)
            if changed or not data:
                return changed


def _peek(path: Path, stream: BinaryIO) -> bytes:
    """The first bytes, which stay in the stream."""
    with reading(path, 1):
        return stream.peek(_HEAD)[:_HEAD]


def _only_member(path: Path, archive: zipfile.ZipFile, member: str) -> BinaryIO:
    names = archive.namelist()
    if _WORKBOOK in names:
        raise DataError(f"{path}: is a packed Excel workbook; unpack it, and give the file itself")
    if _OPEN_DOCUMENT.issubset(names):
        raise DataError(f"{path}: is an OpenDocument file, such as LibreOffice's .ods; save it as CSV in UTF-8")
    inside = [name for name in names if name.endswith(member) and not name.endswith("/")]
    inside = [name for name in inside if not name.startswith(_MAC_FOLDER)]
    if len(inside) != 1:
        raise DataError(
            f"{path}: the archive holds {len(inside)} files *{member}, not one; unpack it and give the file"
        )
    try:
        return archive.open(inside[0])
    except (RuntimeError, NotImplementedError):  # a password; a way of packing that Python does not know
        raise DataError(
            f"{path}: {inside[0]} in the archive needs a password, or is packed in an unusual way; unpack it and give "
            "the file"
        ) from None


def _fail_tar(path: Path, stream: BinaryIO) -> NoReturn:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            names = [entry.name for _, entry in zip(range(5), archive) if entry.isfile()]
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError):  # damaged after its first bytes
        names = []
    held = f" that holds {', '.join(names)}" if names else ""
    raise DataError(f"{path}: is a tar archive{held}; unpack it (tar xf {path.name}) and give the file of events")


def _fail_unreadable(path: Path, error: OSError) -> NoReturn:
    raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
