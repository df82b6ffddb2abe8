"""Downloads from a server on this machine: cut off, gone on with, changed meanwhile, wrong, and not to be had."""

import gzip
import hashlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recbole_metarec.errors import DataError
from recbole_metarec.prepare.download import DownloadError, check_sha256, fetch
from recbole_metarec.prepare.lines import read_blocks

DATA = gzip.compress(bytes(range(256)) * 4000, mtime=0) + bytes(300_000)  # only the beginning must be gzip
CHUNK = 1 << 14  # what a broken connection may lose
SUM = hashlib.sha256(DATA).hexdigest()


class Server:
    """Serves DATA. drops: after how many bytes each of the next answers breaks off. log: the Range of each request."""

    def __init__(self):
        self.drops, self.log, self.data, self.tag, self.ranges, self.errors = [], [], DATA, '"one"', True, []
        # faults of a server: a 206 of at most so many bytes, one that begins elsewhere, no look at If-Range, chunks
        self.at_most, self.shift, self.careless, self.chunked = len(DATA), 0, False, False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/x.json.gz"

    def answer(self, request):
        self.log.append(request.headers.get("Range"))
        if self.errors:
            request.send_error(self.errors.pop(0))
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "")
        if asked and self.ranges and (self.careless or request.headers.get("If-Range") == self.tag):
            start = int(asked[1])
        if start >= len(self.data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.data)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        end = len(self.data)
        if start:
            start += self.shift
            end = min(end, start + self.at_most)
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.data)}")
        if self.chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", str(end - start))
        if self.tag:
            request.send_header("ETag", self.tag)
        request.end_headers()
        broken = bool(self.drops)
        end = min(end, start + self.drops.pop(0)) if broken else end
        body = self.data[start:end]
        if self.chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) + b"0\r\n\r\n" * (not broken)
        request.wfile.write(body)


@pytest.fixture
def server():
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def starts(log) -> list[int]:
    """Where each of the requests asked the server to begin."""
    return [int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) for wanted in log]


def only(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "raw" / "x.json.gz"
    assert fetch(server.url, path, SUM) == path and path.read_bytes() == DATA
    assert only(path.parent) == ["x.json.gz"]
    fetch(server.url, path)
    assert server.log == [None]


def test_a_broken_connection_is_gone_on_with(server, tmp_path):
    server.drops = [100_000, 50_000]
    path = fetch(server.url, tmp_path / "x.json.gz", SUM, pause=0)
    assert path.read_bytes() == DATA and only(tmp_path) == ["x.json.gz"]
    first, second = starts(server.log[1:])
    assert server.log[0] is None and 0 <= 100_000 - first < CHUNK and 0 <= first + 50_000 - second < CHUNK


def test_another_run_goes_on_where_the_first_gave_up(server, tmp_path):
    server.drops = [100_000, 50_000]
    path = tmp_path / "x.json.gz"
    with pytest.raises(DownloadError):
        fetch(server.url, path, attempts=2, pause=0)
    kept = (tmp_path / "x.json.gz.part").stat().st_size
    assert not path.exists() and 0 <= 150_000 - kept < 2 * CHUNK
    fetch(server.url, path, SUM, pause=0)
    assert starts(server.log[-1:]) == [kept] and path.read_bytes() == DATA and only(tmp_path) == ["x.json.gz"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    server.drops = [1000]
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "x.json.gz", attempts=1)
    server.data, server.tag = DATA[:50_000] + b"changed", '"two"'
    assert fetch(server.url, tmp_path / "x.json.gz").read_bytes() == server.data


@pytest.mark.parametrize("weakness", ["no tag", "no ranges"])
def test_a_server_that_cannot_go_on_starts_again(server, tmp_path, weakness):
    server.drops = [1000]
    server.tag, server.ranges = (None, True) if weakness == "no tag" else ('"one"', False)
    assert fetch(server.url, tmp_path / "x.json.gz", SUM, pause=0).read_bytes() == DATA
    assert only(tmp_path) == ["x.json.gz"]


def begun(folder) -> None:
    (folder / "x.json.gz.part").write_bytes(DATA[:1000])
    (folder / "x.json.gz.part.version").write_text('"one"')


def test_an_answer_shorter_than_asked_is_not_the_whole(server, tmp_path):
    begun(tmp_path)
    server.at_most = 150_000
    assert fetch(server.url, tmp_path / "x.json.gz", pause=0).read_bytes() == DATA
    assert server.log[:2] == ["bytes=1000-", "bytes=151000-"]


def test_an_answer_that_begins_elsewhere_is_not_appended(server, tmp_path):
    begun(tmp_path)
    server.shift = 7
    assert fetch(server.url, tmp_path / "x.json.gz", pause=0).read_bytes() == DATA
    assert server.log == ["bytes=1000-", None]


@pytest.mark.parametrize("now", ['"two"', None])
def test_a_changed_file_is_not_appended_though_the_server_would(server, tmp_path, now):
    begun(tmp_path)
    server.careless, server.data, server.tag = True, DATA[:500] + bytes(len(DATA) - 500), now
    assert fetch(server.url, tmp_path / "x.json.gz", pause=0).read_bytes() == server.data
    assert server.log == ["bytes=1000-", None]


def test_chunks_that_break_off_are_not_the_whole(server, tmp_path, monkeypatch):
    monkeypatch.setattr(BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")
    server.chunked, server.drops = True, [60_000]
    assert fetch(server.url, tmp_path / "x.json.gz", pause=0).read_bytes() == DATA
    assert server.log[0] is None and len(server.log) == 2


def test_two_at_once_fetch_a_file_once(server, tmp_path):
    path, gate, answer = tmp_path / "x.json.gz", threading.Event(), server.answer

    def slow(request):
        gate.wait(10)
        answer(request)

    server.answer = slow
    with ThreadPoolExecutor(3) as pool:
        fetched = [pool.submit(fetch, server.url, path, SUM) for _ in range(3)]
        gate.set()
        assert {future.result().read_bytes() == DATA for future in fetched} == {True}
    assert server.log == [None] and only(tmp_path) == ["x.json.gz"]


def test_old_bytes_never_pass_for_a_new_version(server, tmp_path, monkeypatch):
    begun(tmp_path)
    server.tag = '"two"'

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_metarec.prepare.download._save", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, tmp_path / "x.json.gz", pause=0)
    assert (tmp_path / "x.json.gz.part").read_bytes() == b""


def test_a_damaged_file_that_is_there_is_told_how_to_go(tmp_path, monkeypatch):
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path))
    path = tmp_path / "x.json.gz"
    path.write_bytes(DATA[:1000])
    advice = re.escape(f"delete {path} and repeat the command")
    with pytest.raises(DataError, match=rf"its SHA-256 is .*; {advice}, or correct the sum$"):
        fetch("http://127.0.0.1:9/x.json.gz", path, SUM)
    with pytest.raises(DataError, match=rf"{advice}$"):
        list(read_blocks(path))


def test_a_whole_part_is_only_given_its_name(server, tmp_path):
    (tmp_path / "x.json.gz.part").write_bytes(DATA)
    (tmp_path / "x.json.gz.part.version").write_text('"one"')
    assert fetch(server.url, tmp_path / "x.json.gz", SUM).read_bytes() == DATA
    assert server.log == [f"bytes={len(DATA)}-"] and only(tmp_path) == ["x.json.gz"]


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    (tmp_path / "x.json.gz.part").write_bytes(DATA + b"more")
    (tmp_path / "x.json.gz.part.version").write_text('"one"')
    assert fetch(server.url, tmp_path / "x.json.gz", SUM, pause=0).read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match=rf"its SHA-256 is {SUM}, not {'0' * 64}; fetch the file again"):
        fetch(server.url, tmp_path / "x.json.gz", "0" * 64)
    assert only(tmp_path) == []


def test_a_page_instead_of_the_file_leaves_nothing(server, tmp_path):
    server.data = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match=r"it is not a gzip file \(it starts with b'<h'\)"):
        fetch(server.url, tmp_path / "x.json.gz")
    assert only(tmp_path) == []


def test_a_busy_server_is_asked_again_and_an_absent_file_is_not(server, tmp_path):
    server.errors = [503, 429]
    assert fetch(server.url, tmp_path / "x.json.gz", SUM, pause=0).read_bytes() == DATA
    server.errors, server.log = [404], []
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetch(server.url, tmp_path / "y.json.gz", pause=0)
    assert len(server.log) == 1


def test_no_server_at_all(tmp_path):
    with pytest.raises(DownloadError, match=r"cannot be fetched \(no connection"):
        fetch("http://127.0.0.1:9/x.gz", tmp_path / "x.gz", attempts=2, pause=0)
    assert only(tmp_path) == []


def test_a_full_disk_is_no_matter_of_the_network(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recbole_metarec.prepare.download.os.fsync", full)
    with pytest.raises(DataError, match=r"x.json.gz.part: cannot be written \(No space left on device\)") as caught:
        fetch(server.url, tmp_path / "x.json.gz", pause=0)
    assert not isinstance(caught.value, DownloadError) and not (tmp_path / "x.json.gz").exists()


def test_checksum_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert check_sha256(tmp_path / "x", "") == check_sha256(tmp_path / "x", of_abc.upper()) == of_abc
    with pytest.raises(DataError, match="not 00"):
        check_sha256(tmp_path / "x", "00")
