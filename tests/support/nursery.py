"""A process that has imported the libraries under RecBole once, and forks for every Python that a test starts.

``python()`` stands for ``sys.executable`` before ``-c CODE``, ``-m MODULE`` or a file: it starts this file with
``ask``, a process of some milliseconds that passes on words, environment, folder, files and signals, and ends as its
fork does. The fork has imported neither RecBole nor this package, only what costs each process that imports them
several seconds. A test of what is imported at all, or of a library's very first import, needs a Python of its own.
"""

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

_PLACE = "RECBOLE_METAREC_TEST_NURSERY"  # so that a test's processes ask the one that the test asks


@cache
def python() -> tuple[str, ...]:
    """The words of a command that does what Python would. The process that forks lasts as long as this one."""
    if _PLACE not in os.environ:
        nursery = Nursery()
        atexit.register(nursery.close)
        os.environ[_PLACE] = nursery.place
    return sys.executable, "-S", "-E", __file__, "ask", os.environ[_PLACE]


class Nursery:
    """Starts the process that forks; whoever asks it does so at ``place``."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="nursery-")  # the name of a socket must be short
        self.place = str(Path(self._folder.name) / "socket")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"MPLBACKEND": "agg"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", self.place], cwd=self._folder.name, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        self._process.communicate(timeout=60)  # it ends with its input
        self._folder.cleanup()


# -- the command that asks ---------------------------------------------------------------------------------------------


def ask(place: str, words: list[str]) -> None:
    """Has a Python forked with these words, and ends as it does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        job = {"words": words, "environment": dict(os.environ), "folder": os.getcwd(), "asker": os.getpid()}
        job |= {"file_size": resource.getrlimit(resource.RLIMIT_FSIZE)}
        content = json.dumps(job).encode()
        socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(content)
        answers = server.makefile()
        child = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(child, number))
        code = int(answers.readline() or 1)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


# -- the process that forks --------------------------------------------------------------------------------------------


LIBRARIES = (
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "optuna", "pandas", "scipy.sparse", "scipy.stats"),
    *("sklearn.metrics", "sqlalchemy", "torch.utils.tensorboard"),
)  # not ray and NumPy's names, which are mended, nor polars, which has threads


def import_libraries() -> None:
    """Whatever costs much and is no part of a test; nothing here may start a thread or compute a gradient."""
    for name in LIBRARIES:
        importlib.import_module(name)
    import torch

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # the first optimiser imports half of torch


def serve(place: str) -> dict | None:
    """Forks for whoever asks, until its input ends. Returns twice: in each fork its job, and None at the end."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    askers: dict[socket.socket, int] = {}  # -> the number of its fork
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            ready = select.select([sys.stdin, listener, woken, *askers], [], [])[0]
            if sys.stdin in ready:
                for child in askers.values():
                    os.kill(child, signal.SIGKILL)
                return None
            if woken in ready:
                woken.recv(4096)
                _tell_ends(askers)
            for asker in [one for one in ready if one in askers]:  # it says nothing more: it is gone
                os.kill(askers[asker], signal.SIGKILL)
                os.waitpid(askers.pop(asker), 0)
                asker.close()
            if listener in ready:
                asker, _ = listener.accept()
                job, files = _read(asker)
                if job is None:
                    asker.close()
                elif child := os.fork():
                    for file in files:
                        os.close(file)
                    askers[asker] = child
                    _say(asker, child)
                else:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for own in (asker, listener, woken, wakes, *askers):
                        own.close()
                    for number, file in enumerate(files):
                        os.dup2(file, number)
                        os.close(file)
                    return job


def _read(asker: socket.socket) -> tuple[dict | None, list[int]]:
    head, files, _, _ = socket.recv_fds(asker, 8, 3)
    content, size = b"", int.from_bytes(head, "big")
    while len(content) < size and (more := asker.recv(size - len(content))):
        content += more
    return (json.loads(content) if content and len(content) == size else None), files


def _tell_ends(askers: dict[socket.socket, int]) -> None:
    for asker, child in list(askers.items()):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            del askers[asker]
            _say(asker, os.waitstatus_to_exitcode(status))
            asker.close()


def _say(asker: socket.socket, number: int) -> None:
    with suppress(OSError):
        asker.sendall(f"{number}\n".encode())


def become(job: dict) -> str:
    """Makes this fork what a fresh Python with these words would be; returns what it runs."""
    import random

    import numpy
    import psutil
    import torch

    kind, *words = job["words"]
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = {"-c": "", "-m": job["folder"]}.get(kind, os.path.dirname(os.path.abspath(kind)))
    sys.path[:] = [first, *paths, *sys.path[1:]]  # the first was the folder of this file
    plain = {"buffering": 1, "closefd": False, "errors": "backslashreplace"}
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", **plain)  # noqa: SIM115
    at_once = {"buffering": 1} if os.environ.get("PYTHONUNBUFFERED") else {}
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False, **at_once)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    soft, hard = job["file_size"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    random.seed()
    numpy.random.seed()

    def parent() -> int:
        try:
            return psutil.Process(job["asker"]).ppid()
        except psutil.NoSuchProcess:
            return 0

    os.getppid = parent  # of the process that this one stands in for
    if kind in ("-c", "-m"):
        what, *words = words
        sys.argv = [kind, *words]
        return f"{kind}{what}"
    sys.argv = [kind, *words]
    return kind


def run(what: str) -> None:
    """Runs what :func:`become` returned, and ends this process as Python would, but for taking its memory apart."""
    code = 0  # negative: of a signal
    try:
        if what.startswith("-c"):
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what[2:], "<string>", "exec"), vars(main))
        elif what.startswith("-m"):
            runpy.run_module(what[2:], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(what, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def main() -> None:
    if sys.argv[1] == "ask":
        ask(sys.argv[2], sys.argv[3:])
    import_libraries()
    gc.freeze()  # what is looked through no more is not copied for each fork
    if job := serve(sys.argv[2]):
        run(become(job))
    os._exit(0)


if __name__ == "__main__":
    main()
