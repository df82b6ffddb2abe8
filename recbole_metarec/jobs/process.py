"""One run in its own process: starts it, reads its progress from its output, and ends it."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from recbole_metarec.jobs.job import PlannedRun

POLL_SECONDS = 0.2
_REPORT_SECONDS = 30.0  # between two lines about a run in progress
_GRACE_SECONDS = 10.0  # for an interrupted run to end
# the line of each epoch in the log, without colours: our short form or RecBole's long one
_EPOCH = re.compile(r"epoch (\d+)(?: evaluating .*?valid_score:|: \S+) ([-\d.]+)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def log_file(run: PlannedRun) -> Path:
    """The file with everything that the run's process prints."""
    return Path(run.folder) / "output.log"


def run_file(run: PlannedRun) -> Path:
    """The file from which the run's process reads its plan."""
    return Path(run.folder) / "run.json"


def environment(jobs: int) -> dict[str, str]:
    """The environment of a run's process when ``jobs`` of them share the processors."""
    share = str(max(1, processors() // jobs))
    return {"OMP_NUM_THREADS": share, **os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": _python_path()}


def python_module(name: str) -> tuple[str, ...]:
    """The command that runs a module's ``main`` and, unlike ``python -m``, imports nothing from the current folder.

    That folder may be a clone of RecBole or hold a ``datasets.py``, which must not influence results.
    """
    code = f"import sys; sys.path = [p for p in sys.path if p]; from {name} import main; sys.exit(main(sys.argv[1:]))"
    return sys.executable, "-c", code


class RunProcess:
    """A run in a process of its own.

    worker: the command that does it; the run's file, ``more`` and the id of this process are appended. The new process
    ends when this one is gone.
    """

    def __init__(self, run: PlannedRun, worker: Sequence[str], more: Sequence[str], environment: Mapping[str, str]):
        self.run, self.log = run, log_file(run)
        self._started = self._reported = monotonic()
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        run.write(run_file(run))
        with open(self.log, "ab") as log:
            # in its own session, so that Ctrl-C reaches it only once, through end_all
            self.process = subprocess.Popen(
                [*worker, str(run_file(run)), *more, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that killed it."""
        return self.process.poll()

    @property
    def lasted(self) -> str:
        """The time since it was started, for messages."""
        return duration(monotonic() - self._started)

    def progress(self) -> str | None:
        """A line about its progress if one is due, else None."""
        if monotonic() - self._reported < _REPORT_SECONDS:
            return None
        self._reported = monotonic()
        epochs = _EPOCH.findall(_COLOUR.sub("", _tail(self.log)))
        at = f"epoch {epochs[-1][0]}, validation {float(epochs[-1][1]):.4f}, " if epochs else ""
        return f"{at}{self.lasted} so far"

    def last_words(self) -> str:
        """Why it ended, for a process that could not record it itself."""
        code = self.process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (", possibly out of memory" if name == "SIGKILL" else "")
        lines = _COLOUR.sub("", _tail(self.log)).strip().splitlines()
        return f"exit code {code}" + (f": {lines[-1].strip()}" if lines else "")


def end_all(processes: Iterable[RunProcess]) -> None:
    """Interrupts runs in progress as Ctrl-C would, and kills those that do not end."""
    running = [each.process for each in processes]
    for process in running:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
    deadline = monotonic() + _GRACE_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _python_path() -> str:
    """The PYTHONPATH by which a run's process imports this copy of the package, even if another one is installed."""
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    root = str(Path(__file__).resolve().parents[2])
    installed = root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return os.pathsep.join(paths if installed else [root, *paths])


def _tail(file: Path, most: int = 8192) -> str:
    try:
        with open(file, "rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - most))
            return opened.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
