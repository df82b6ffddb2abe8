"""Does the missing runs of a plan: one process per run, several at once, each with its output in a file."""

from collections import deque
from collections.abc import Callable, Sequence
from time import sleep

from recbole_metarec.jobs.job import PlannedRun
from recbole_metarec.jobs.process import POLL_SECONDS, RunProcess, end_all, environment, python_module
from recbole_metarec.jobs.store import RunStore
from recbole_metarec.jobs.worker import FAILED, IN_OTHER_HANDS

WORKER = python_module("recbole_metarec.jobs.train")


class Runner:
    """Runs a plan to its end, ``jobs`` processes at once.

    store: where results are kept. say: called with each line of progress. worker: the command that does one run; the
    run's file, the store's name and the id of this process are appended. done: called after each run that has ended.
    """

    def __init__(
        self,
        store: RunStore,
        jobs: int = 1,
        say: Callable[[str], None] = print,
        worker: Sequence[str] = WORKER,
        done: Callable[[], None] = lambda: None,
    ):
        self.store, self.jobs, self.say, self.worker, self.done = store, jobs, say, tuple(worker), done
        self._environment = environment(jobs) | store.environment
        self._active: dict[RunProcess, int] = {}  # -> its number in the plan, for messages
        self._total = 0

    def run(self, plan: Sequence[PlannedRun]) -> None:
        """Does every run that is not in the store. A run that fails is recorded, and the others continue.

        It waits for a run that is in progress elsewhere, and does it here if its process dies. When interrupted, it
        ends its processes, keeps finished runs, and raises KeyboardInterrupt.
        """
        self._total = len(plan)
        waiting = deque((n, run) for n, run in enumerate(plan, 1) if not self.store.is_done(run))
        if len(waiting) < self._total:
            self.say(f"{self._total - len(waiting)} of {self._total} runs are done already: {self.store.name}")
        elsewhere: set[str] = set()
        try:
            while waiting or self._active:
                self._start_some(waiting, elsewhere)
                sleep(POLL_SECONDS)
                waiting.extend(self._collect())
        except BaseException as stop:
            end_all(self._active)
            if not isinstance(stop, KeyboardInterrupt):
                raise
            done = sum(map(self.store.is_done, plan))
            raise type(stop)(
                f"{done} of {self._total} runs are in {self.store.name}; the same command does the rest"
            ) from None

    def _start_some(self, waiting: deque, elsewhere: set[str]) -> None:
        """Starts as many runs as ``jobs`` allows. A run that is in progress elsewhere goes to the end of the queue."""
        for _ in range(len(waiting)):
            if len(self._active) >= self.jobs:
                return
            number, run = waiting.popleft()
            status = self.store.status(run)
            if status == "running":
                waiting.append((number, run))
                if run.key not in elsewhere:
                    elsewhere.add(run.key)
                    self._tell(number, run, "already running in another process")
            elif status == "done" or (status == "failed" and run.key in elsewhere):  # meanwhile
                self._tell(number, run, f"{status} by another command")
            else:
                self._active[RunProcess(run, self.worker, [self.store.name], self._environment)] = number
                self._tell(number, run, "started")

    def _collect(self) -> list[tuple[int, PlannedRun]]:
        """Reports on the runs in progress and on those that have ended. Returns those that another process is doing."""
        elsewhere = []
        for process, number in list(self._active.items()):
            if process.exit_code is None:
                if line := process.progress():
                    self._tell(number, process.run, line)
                continue
            del self._active[process]
            if self._report_end(process, number):
                self.done()
            else:
                elsewhere.append((number, process.run))
        return elsewhere

    def _report_end(self, process: RunProcess, number: int) -> bool:
        """Reports how a run ended, and records its death if it could not. False if another process is doing the run."""
        run = process.run
        if process.exit_code not in (FAILED, IN_OTHER_HANDS) and not self.store.is_done(run):
            self.store.record_death(run, process.last_words())
        if self.store.status(run) in ("running", "missing"):
            return False
        for result in self.store.results([run]):
            metric = run.config["valid_metric"].lower()
            self._tell(number, run, f"{metric} {result.valid[metric]:.4f} on validation, {process.lasted}")
        for failure in self.store.failures([run]):
            self._tell(number, run, f"FAILED after {process.lasted}: {failure.error} (see {process.log})")
        return True

    def _tell(self, number: int, run: PlannedRun, text: str) -> None:
        self.say(f"[{number}/{self._total}] {run.title}: {text}")
