"""A process that has imported everything and then forks a run for each line it reads: an import costs seconds.

A process of its own, and not pytest's, since torch cannot go on in a fork of a process that has computed gradients.
A line is JSON: model, overrides, output, resume, and at most one of ``delay`` (seconds until SIGKILL) and ``call``
(``[name, n]``: SIGKILL at the n-th ``fsync``, before the n-th ``replace``, or after it: ``replaced``). The answer is
JSON, too: whether it was killed, its exit code, its seconds. A run that came to its end leaves its count of calls.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

import recbole_metarec  # noqa: F401

# isort: split
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.runs import figures

CALLS = ("fsync", "replace", "replaced")


def count_calls(kill_at) -> dict[str, int]:
    """Counts the calls of what makes a file's content safe; kills this process at the chosen one."""
    made = dict.fromkeys(CALLS, 0)
    fsync, replace = os.fsync, os.replace

    def at(name: str) -> None:
        made[name] += 1
        if kill_at and [name, made[name]] == list(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    def counted_fsync(file):
        at("fsync")
        fsync(file)

    def counted_replace(*paths):
        at("replace")
        replace(*paths)
        at("replaced")

    os.fsync, os.replace = counted_fsync, counted_replace
    return made


def child(job: dict) -> None:
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    made = count_calls(job.get("call"))
    random.seed(os.getpid())
    torch.manual_seed(os.getpid())  # another process has drawn other numbers
    try:
        run_experiment(job["model"], "Target", overrides=job["overrides"], resume=job.get("resume"))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    Path(job["output"]).with_suffix(".calls").write_text(json.dumps(made))
    os._exit(0)


def do(job: dict) -> dict:
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        child(job)
    if "delay" in job:
        time.sleep(job["delay"])
        os.kill(pid, signal.SIGKILL)  # nobody has waited for it yet: the number is still its own
    status = os.waitpid(pid, 0)[1]
    answer = {"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}
    return answer | {"seconds": time.monotonic() - started}


def main() -> None:
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # the first optimiser imports half of torch
    figures.png = lambda figure: b""  # composed and written, but not rendered, which would be most of a run's time
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(do(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
