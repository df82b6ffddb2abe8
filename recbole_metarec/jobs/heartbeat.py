"""What a run's process does beside its work: it shows that it lives, and ends when nobody waits for it any more."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from recbole_metarec.errors import DataError
from recbole_metarec.jobs.owner import HEARTBEAT_SECONDS

INTERRUPTED = 130  # exit code
_LOOK_SECONDS = 0.5


class Heartbeat:
    """While it is open, calls ``beat`` now and then, and ends this process when the one that started it is gone.

    A run whose command was killed would otherwise go on for nobody, and beside the next command's runs.
    parent: number of the process that started this one.
    """

    def __init__(self, parent: int, beat: Callable[[], None] = lambda: None):
        self._parent, self._beat = parent, beat
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        waited = 0.0
        while not self._done.wait(_LOOK_SECONDS):
            if os.getppid() != self._parent:
                print("the command that started this run is gone; so is this run", file=sys.stderr, flush=True)
                os._exit(INTERRUPTED)
            waited += _LOOK_SECONDS
            if waited >= HEARTBEAT_SECONDS:
                waited = 0.0
                with suppress(DataError):  # a file that is locked for minutes is no reason to stop
                    self._beat()
