"""A target of 33 million interactions on a million items: time to the first step, steps per second, the cost of a
validation, and the largest resident memory.

Times are processor time of all threads, on which other load has little effect. The time to the first step is also
given by the wall clock.

Everything happens in this one process, which starts anew for each row. Its peak (VmHWM) includes the interpreter and
the libraries. A child process writes the file first, so that writing it does not count.
"""

import time
from collections.abc import Callable
from pathlib import Path

from harness import Figure, Result, main
from large_domain import histories_as_written, write_domain
from million_items import peak_bytes, run_steps
from sides import build

from recbole_metarec.evaluation.ranking import rank_all

_NAME, _GIB = "Large", 2**30


def measure(options) -> Result:
    folder = Path("domains").absolute()
    file = write_domain(folder, _NAME, options.events, options.users, options.items, every_item=True)
    by_clock, started = time.perf_counter(), time.process_time()
    times, peaks = {}, {"interpreter and libraries": peak_bytes()}
    side = build(
        "LRURec",
        str(folder),
        _NAME,
        target_negatives=options.negatives,
        item_memory=options.memory_neighbours > 0,
        memory_neighbours=max(1, options.memory_neighbours),
        eval_users=options.eval_users,
    )
    times["target, pair counts, model and optimiser"] = time.process_time() - started
    peaks["target, pair counts, model and optimiser"] = peak_bytes()
    batches = iter(side.train)
    run_steps(side, batches, 1)
    times["until the first step is done"] = time.process_time() - started
    times["the same, by the clock"] = time.perf_counter() - by_clock
    rates = [options.steps / spent(lambda: run_steps(side, batches, options.steps)) for _ in range(options.repeats)]
    peaks["steps"] = peak_bytes()
    ranks = []
    took = spent(lambda: ranks.append(rank_all(side.model, side.valid, side.trainer.device)))
    peaks["a validation"] = peak_bytes()
    assert len(ranks[0]) == options.eval_users and ranks[0].min() >= 1
    store, data = side.train.dataset.store, side.train.dataset
    assert len(store.items) == options.events and data.item_num == options.items + 1
    figures = {f"time: {name}": Figure("s", [value]) for name, value in times.items()}
    figures["steps per second"] = Figure("steps/s", rates)
    figures["a validation row"] = Figure("ms", [took / options.eval_users * 1000])
    figures |= {f"peak after: {name}": Figure("GiB", [value / _GIB]) for name, value in peaks.items()}
    reached, users, steps = peak_bytes() / _GIB, len(store.users), len(side.train)
    memory = f"item memory of {options.memory_neighbours} neighbours" if options.memory_neighbours else "no item memory"
    return Result(
        same=histories_as_written(file, store),
        reached=[reached],
        figures=figures,
        notes=f"{options.events} interactions of {users} users on {options.items} items, in no order, "
        f"{file.stat().st_size / _GIB:.1f} GiB of text, Unix seconds; LRURec, d = 64, {options.negatives} negatives, "
        f"{memory}; an epoch has {steps} steps of {side.config['train_batch_size']} targets; validation ranks the "
        f"whole catalogue for {options.eval_users} users (eval_users). One measurement: a peak never falls.",
    )


def spent(work: Callable[[], object]) -> float:
    """Processor time of all threads, in seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main(
        measure,
        events={"type": int, "default": 33_000_000},
        users={"type": int, "default": 4_000_000},
        items={"type": int, "default": 1_000_000},
        negatives={"type": int, "default": 1024},
        memory_neighbours={"type": int, "default": 0, "help": "neighbours an item in the item memory; 0: no memory"},
        eval_users={"type": int, "default": 1000, "help": "users that validation ranks the catalogue for"},
        steps={"type": int, "default": 100, "help": "steps in each repeat"},
    )
