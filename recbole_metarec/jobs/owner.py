"""Which process has a run in hand, and whether it still lives: a run whose process is gone is anybody's again."""

import os
import platform
from dataclasses import dataclass

import psutil

HEARTBEAT_SECONDS = 20.0
# For a process on another host only its heartbeat can be seen; clocks and slow disks get some room.
SILENCE_SECONDS = 15 * HEARTBEAT_SECONDS
_CLOCK_SLACK_SECONDS = 2.0  # a start time is boot time plus ticks, and boot time moves when the clock is set


@dataclass(frozen=True)
class Owner:
    """A process: host name, process number, and start in seconds since 1970 (numbers are used again)."""

    host: str
    pid: int
    started: float

    @classmethod
    def this_process(cls) -> "Owner":
        return cls(platform.node(), os.getpid(), psutil.Process().create_time())

    def is_alive(self, silence: float) -> bool:
        """Whether it still works. silence: seconds since its last heartbeat, all that is known of another host."""
        if self.host != platform.node():
            return silence < SILENCE_SECONDS
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK_SLACK_SECONDS
            return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:  # it is another user's, who alone may look closer
            return silence < SILENCE_SECONDS
