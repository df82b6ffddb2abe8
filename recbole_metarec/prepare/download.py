"""Download of one file: resumes where it was cut off, is checked, and gets its name only when it is complete."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from tqdm import tqdm

from recbole_metarec.errors import DataError
from recbole_metarec.files import locked, make_dir

_CHUNK = 1 << 14  # bytes; what had come of a chunk when the connection breaks is lost
_TIMEOUT_SECONDS = 60
_GZIP = b"\x1f\x8b"


class DownloadError(DataError):
    """A file cannot be fetched from its address: no network, no such file, or another one than expected."""


class _Interrupted(Exception):
    """The connection broke; another attempt may resume."""


def fetch(url: str, path: Path, sha256: str = "", attempts: int = 5, pause: float = 2.0) -> Path:
    """Download ``url`` to ``path``, unless it is there, and return ``path``.

    What has arrived is in ``NAME.part`` and is kept when the connection breaks, so that the next attempt, now or in
    another run, asks only for the rest (HTTP Range, If-Range). Each further attempt waits twice as long, ``pause``
    seconds at first. The length must be what the server says, a ``.gz`` must begin as one, and ``sha256`` must match
    (unless empty), also that of a file that is there; then the file is renamed. While another process fetches the same
    file, this one waits. Raises DownloadError in one line, DataError if the disk is full.
    """
    if path.is_file():
        return _verified(path, sha256)
    make_dir(path.parent)
    part = path.with_name(f"{path.name}.part")
    with locked(part.with_name(f"{part.name}.lock")):
        if path.is_file():  # another process was faster
            return _verified(path, sha256)
        _transfer_all(url, part, attempts, pause)
        _check(url, part, sha256, named_gzip=path.suffix == ".gz")
        os.replace(part, path)
        _tag_file(part).unlink(missing_ok=True)
    return path


def _verified(path: Path, sha256: str) -> Path:
    """A file that is there already, its sum checked."""
    if sha256:
        check_sha256(path, sha256, f"delete {path} and repeat the command, or correct the sum")
    return path


def _transfer_all(url: str, part: Path, attempts: int, pause: float) -> None:
    reason: _Interrupted | None = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _transfer(url, part)
        except _Interrupted as error:
            reason = error
    kept = f"; {part.stat().st_size} bytes are kept: rerun the command to continue from there" if part.exists() else ""
    raise DownloadError(f"{url}: cannot be fetched ({reason}){kept}")


def check_sha256(path: Path, sha256: str, advice: str = "fetch the file again, or correct the sum") -> str:
    """The SHA-256 of a file in hex. Raises DataError if it is not ``sha256``, unless that is empty."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    checksum = digest.hexdigest()
    if sha256 and checksum != sha256.lower():
        raise DataError(f"{path}: its SHA-256 is {checksum}, not {sha256.lower()}; {advice}")
    return checksum


def _transfer(url: str, part: Path) -> None:
    """Append what is missing to ``part``. Raises _Interrupted if some is still missing then."""
    size = part.stat().st_size if part.exists() else 0
    with _answer(url, size, part) as response:
        if response is None:  # all of it had come before
            return
        resumed = response.status_code == 206
        start, total = _range(response) if resumed else (0, _length(response))
        if resumed and (start != size or _version(response) != _stored_version(part)):
            _drop(part)
            raise _Interrupted("the server continued at another byte or with another version of the file")
        try:
            if not resumed:
                part.write_bytes(b"")  # before the new version is noted, so that old bytes never pass for new ones
                _remember(part, response)
            _save(response, part, start, total)
        except requests.RequestException as error:  # an OSError, too, but of the network
            raise _Interrupted(f"the connection broke in the middle of the file ({error})") from None
        except OSError as error:
            raise DataError(
                f"{part}: cannot be written ({error.strerror}); check its permissions and the space on its disk"
            ) from None
    size = part.stat().st_size
    if total is not None and size > total:
        _drop(part)
    if total is not None and size != total:
        raise _Interrupted(f"{size} of {total} bytes came")


def _save(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    settings = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}
    with open(part, "ab") as file, tqdm(initial=start, total=total, desc=part.stem, **settings) as bar:
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _answer(url: str, size: int, part: Path) -> Iterator[requests.Response | None]:
    """The response to a request for everything after ``size`` bytes; None if there is nothing after them."""
    headers = {"User-Agent": "recbole-metarec", "Accept-Encoding": "identity", "Connection": "close"}
    version = _stored_version(part)
    if size and version:
        headers |= {"Range": f"bytes={size}-", "If-Range": version}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
    except requests.ConnectionError as error:
        if "NameResolutionError" in str(error):  # no network at all: waiting does not help
            raise DownloadError(f"{url}: cannot be fetched (no connection: the host's name is not known)") from None
        raise _Interrupted("no connection") from None
    except requests.RequestException as error:
        raise _Interrupted(f"no connection ({error})") from None
    with response:
        code = response.status_code
        if code < 400:
            yield response
        elif code == 416 and _version(response) in ("", version) and _is_whole(response, size):
            yield None
        elif code == 416:
            _drop(part)
            raise _Interrupted("the file there has changed")
        elif code < 500 and code not in (408, 429):
            raise DownloadError(f"{url}: the server answers {code} ({response.reason})")
        else:
            raise _Interrupted(f"the server answers {code} ({response.reason})")


def _is_whole(response: requests.Response, size: int) -> bool:
    """Whether the server refused a range because the file ends there."""
    return response.headers.get("Content-Range", "").endswith(f"/{size}")


def _range(response: requests.Response) -> tuple[int, int | None]:
    """(where the bytes of a partial answer begin, length of the whole file); -1 and None where it does not say."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if span is None:
        return -1, None
    if span[2] != "*":
        return int(span[1]), int(span[2])
    length = _length(response)
    return int(span[1]), None if length is None else int(span[1]) + length


def _length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _version(response: requests.Response) -> str:
    """The server's mark of this version of the file, "" for none: only the same version may be continued."""
    tag = response.headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""


def _stored_version(part: Path) -> str:
    tag = _tag_file(part)
    return tag.read_text(encoding="utf-8") if tag.is_file() else ""


def _remember(part: Path, response: requests.Response) -> None:
    version = _version(response)
    if version:
        _tag_file(part).write_text(version, encoding="utf-8")
    else:
        _tag_file(part).unlink(missing_ok=True)


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _check(url: str, part: Path, sha256: str, named_gzip: bool) -> None:
    """Raises DownloadError, and drops the file, if it is not the one that was asked for."""
    try:
        with open(part, "rb") as file:
            start = file.read(2)
        if named_gzip and start != _GZIP:
            raise DataError(f"it is not a gzip file (it starts with {start!r})")
        check_sha256(part, sha256)
    except DataError as error:
        _drop(part)
        raise DownloadError(f"{url}: what came is not the file: {str(error).removeprefix(f'{part}: ')}") from None
