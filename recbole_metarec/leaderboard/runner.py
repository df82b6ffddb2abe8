"""Does what is missing of a plan: one process per run, several at once, each with its output in a file."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from recbole_metarec.leaderboard.planned import PlannedRun
from recbole_metarec.leaderboard.store import RunStore

WORKER = (sys.executable, "-m", "recbole_metarec.leaderboard.worker")
_POLL_SECONDS = 0.2
_REPORT_SECONDS = 30.0  # between two lines about a run in progress
_GRACE_SECONDS = 10.0  # for a run that is told to end
# RecBole's log line after each validation, colours aside
_EPOCH = re.compile(r"epoch (\d+) evaluating .*?valid_score: ([-\d.]+)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


@dataclass
class _Job:
    """A run in a process of ours. number: its place in the plan, for messages."""

    run: PlannedRun
    number: int
    process: subprocess.Popen
    started: float = field(default_factory=monotonic)
    reported: float = field(default_factory=monotonic)

    @property
    def log(self) -> Path:
        return log_file(self.run)


def log_file(run: PlannedRun) -> Path:
    """Where everything goes that the run's process prints."""
    return Path(run.folder) / "output.log"


class Runner:
    """Brings a plan to its end, in so many processes at once.

    store: the file of results. say: gets one line of progress at a time. worker: the command that does one run, to
    which the run's file, the store's and this process's number are added.
    """

    def __init__(
        self, store: RunStore, jobs: int = 1, say: Callable[[str], None] = print, worker: Sequence[str] = WORKER
    ):
        self.store, self.jobs, self.say, self.worker = store, jobs, say, tuple(worker)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": _python_path()}
        self._environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // jobs)))
        self._active: list[_Job] = []
        self._total = 0

    def run(self, plan: Sequence[PlannedRun]) -> None:
        """Does every run that the store does not hold; a run that fails is recorded and the others go on.

        What another command has in hand is waited for, and taken over if that command's process dies. Raises
        KeyboardInterrupt, after its processes have ended, if it is interrupted; finished runs are kept.
        """
        self._total = len(plan)
        statuses = [self.store.status(run) for run in plan]
        waiting = deque((n, run) for n, (run, status) in enumerate(zip(plan, statuses), 1) if status != "done")
        if len(waiting) < self._total:
            self.say(f"{self._total - len(waiting)} of {self._total} runs are there already: {self.store.path}")
        try:
            elsewhere: set[str] = set()
            while waiting or self._active:
                self._start_some(waiting, elsewhere)
                sleep(_POLL_SECONDS)
                waiting.extend(self._collect())
        except KeyboardInterrupt:
            self._end_all()
            done = sum(self.store.status(run) == "done" for run in plan)
            raise KeyboardInterrupt(
                f"{done} of {self._total} runs are in {self.store.path}; the same command does the rest"
            ) from None
        except BaseException:
            self._end_all()
            raise

    # -- starting ------------------------------------------------------------------------------------------------

    def _start_some(self, waiting: deque, elsewhere: set[str]) -> None:
        """Fills the free places. A run in other living hands goes to the end of the queue."""
        for _ in range(len(waiting)):
            if len(self._active) >= self.jobs:
                return
            number, run = waiting.popleft()
            status = self.store.status(run)
            if status == "running":
                waiting.append((number, run))
                if run.key not in elsewhere:
                    elsewhere.add(run.key)
                    self._tell(number, run, "another command is at it")
            elif status == "done" or (status == "failed" and run.key in elsewhere):  # meanwhile
                self._tell(number, run, f"{status} by another command")
            else:
                self._active.append(self._start(number, run))

    def _start(self, number: int, run: PlannedRun) -> _Job:
        folder = Path(run.folder)
        folder.mkdir(parents=True, exist_ok=True)
        run.write(folder / "run.json")
        command = [*self.worker, str(folder / "run.json"), str(self.store.path), str(os.getpid())]
        with open(folder / "output.log", "ab") as log:
            # a session of its own: Ctrl-C is ours to pass on, once
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        self._tell(number, run, "started")
        return _Job(run, number, process)

    # -- watching ------------------------------------------------------------------------------------------------

    def _collect(self) -> list[tuple[int, PlannedRun]]:
        """Looks after the runs in progress; returns those that turned out to be in other hands."""
        taken = []
        for job in list(self._active):
            code = job.process.poll()
            if code is None:
                self._report_progress(job)
                continue
            self._active.remove(job)
            if not self._ended(job, code):
                taken.append((job.number, job.run))
        return taken

    def _ended(self, job: _Job, code: int) -> bool:
        """Says what came of a run, and records its death if it had no time to. False if it is in other hands."""
        status = self.store.status(job.run)
        if status == "running":
            return False
        if status == "missing":
            self.store.record_death(job.run, _last_words(code, job.log))
        seconds = monotonic() - job.started
        for result in self.store.results([job.run]):
            metric = job.run.config["valid_metric"].lower()
            self._tell(job.number, job.run, f"{metric} {result.valid[metric]:.4f} on validation, {_duration(seconds)}")
        for failure in self.store.failures([job.run]):
            self._tell(job.number, job.run, f"FAILED after {_duration(seconds)}: {failure.error} (see {job.log})")
        return True

    def _report_progress(self, job: _Job) -> None:
        now = monotonic()
        if now - job.reported < _REPORT_SECONDS:
            return
        job.reported = now
        epochs = _EPOCH.findall(_COLOUR.sub("", _tail(job.log)))
        at = f"epoch {epochs[-1][0]}, validation {float(epochs[-1][1]):.4f}, " if epochs else ""
        self._tell(job.number, job.run, f"{at}{_duration(now - job.started)} so far")

    def _tell(self, number: int, run: PlannedRun, text: str) -> None:
        self.say(f"[{number}/{self._total}] {run.title}: {text}")

    # -- ending --------------------------------------------------------------------------------------------------

    def _end_all(self) -> None:
        """Interrupts the runs in progress as Ctrl-C would, and kills what does not end."""
        for job in self._active:
            with suppress(ProcessLookupError):
                job.process.send_signal(signal.SIGINT)
        deadline = monotonic() + _GRACE_SECONDS
        for job in self._active:
            try:
                job.process.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                job.process.kill()
                job.process.wait()


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _python_path() -> str:
    """Where a process of ours finds this very package, also where another one is installed."""
    given = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    root = str(Path(__file__).resolve().parents[2])
    installed = root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return os.pathsep.join(given if installed else [root, *given])


def _last_words(code: int, log: Path) -> str:
    """Why a process ended that could not say so itself."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    lines = _COLOUR.sub("", _tail(log)).strip().splitlines()
    return f"exit code {code}" + (f": {lines[-1].strip()}" if lines else "")


def _tail(file: Path, most: int = 8192) -> str:
    try:
        with open(file, "rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - most))
            return opened.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
