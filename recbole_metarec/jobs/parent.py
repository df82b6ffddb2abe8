"""Ends a run's process when the process that waits for it is gone."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # exit code
_LOOK_SECONDS = 0.5


@contextmanager
def ends_with(parent: int) -> Iterator[None]:
    """While this is open, this process ends when the one that started it, with process id ``parent``, is gone.

    Otherwise a run would continue after its command was killed, and compete with the runs of the next command.
    """
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(parent, done), daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def _watch(parent: int, done: threading.Event) -> None:
    while not done.wait(_LOOK_SECONDS):
        if os.getppid() != parent:
            print("the command that started this run is gone; so is this run", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
