"""Memory and time of a training step on a catalogue of a million items, d = 64, sampled softmax.

The peak is the process's largest resident memory during the steps (VmHWM, reset before each measurement) less the
parameters and the optimiser's state. It includes interpreter, libraries and data.
"""

import resource
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from harness import Figure, Result, assert_close, main, seconds
from sides import Side, build

from recbole_metarec.randomness import Streams

_ITEMS, _EVENTS_PER_USER, _NAME = 1_000_000, 24, "Million"
_GIB = 2**30


def measure(options) -> Result:
    write_domain(Path("domains"))
    side = build("LRURec", str(Path("domains").absolute()), _NAME, target_negatives=options.negatives)
    assert side.model.n_items == _ITEMS + 1 and side.config["embedding_size"] == 64
    proof = sampled_loss_is_right(side)
    batches = iter(side.train)
    peaks, above, times = [], [], []
    run_steps(side, batches, 1)  # the optimiser creates its state
    kept = parameter_bytes(side)
    for _ in range(options.repeats):
        before = forget_peak()
        times.append(seconds(lambda: run_steps(side, batches, options.steps)) / options.steps)
        peak = peak_bytes()
        peaks.append((peak - kept) / _GIB)
        above.append((peak - before) / _GIB)
    return Result(
        same=proof,
        reached=peaks,
        figures={
            "resident peak less parameters and optimiser": Figure("GiB", peaks),
            "of it, what the steps add to what is held between them": Figure("GiB", above),
            "a step": Figure("s", times),
        },
        notes=f"Batches of {side.config['train_batch_size']} targets, {options.negatives} negatives, AdamW; parameters "
        f"and optimiser state {kept / _GIB:.2f} GiB. The peak includes interpreter, libraries and the data set.",
    )


def write_domain(folder: Path) -> None:
    """Writes histories that together hold every item at least once."""
    random = np.random.default_rng(0)
    users = -(-_ITEMS * 6 // (5 * _EVENTS_PER_USER))
    events = users * _EVENTS_PER_USER
    items = random.permutation(np.r_[np.arange(_ITEMS), random.integers(0, _ITEMS, events - _ITEMS)])
    (folder / _NAME).mkdir(parents=True)
    with open(folder / _NAME / f"{_NAME}.inter", "w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for row, item in enumerate(items.tolist()):
            file.write(f"u{row // _EVENTS_PER_USER}\ti{item}\t{row % _EVENTS_PER_USER}\n")


def run_steps(side: Side, batches, count: int) -> None:
    """Does ``count`` whole training steps."""
    streams = Streams(side.trainer.device, side.config["seed"], "dropout", 0)
    for _ in range(count):
        result = side.trainer._one_step(side.model.batch_of(next(batches)), streams)
        side.trainer._apply(result, 0)


def parameter_bytes(side: Side) -> int:
    """Bytes of parameters and optimiser state."""
    optimizer = side.trainer.optimizer
    states = [value for part in (optimizer.dense, optimizer.rows) for s in part.state.values() for value in s.values()]
    tensors = [*side.model.parameters(), *(value for value in states if isinstance(value, torch.Tensor))]
    return sum(value.numel() * value.element_size() for value in tensors)


@torch.no_grad()
def sampled_loss_is_right(side: Side) -> str:
    """Compares the mean sampled loss over draws with the full softmax over all items that occur in training."""
    model = side.model
    batch = model.batch_of(next(iter(side.train))).rows(torch.arange(8))
    parameters = {name: value.clone() for name, value in model.named_parameters()}
    parameters["item_embedding.weight"] *= 5  # scores of a new model are almost equal, which would prove nothing
    seen = model.popularity > 0
    parameters["item_bias"][~seen] = -1e4  # such items are never drawn
    parts, draws = [model.encoder, *model.encoder.blocks], torch.Generator().manual_seed(0)
    usual, negatives = parts[0].dropout_prob, model.target_negatives
    for part in parts:
        part.dropout_prob = 0.0
    sampled = np.mean([float(model.target_loss(parameters, batch, draws)) for _ in range(32)])
    model.target_negatives = 0
    full = float(model.target_loss(parameters, batch, None))
    model.target_negatives = negatives
    for part in parts:
        part.dropout_prob = usual
    off = assert_close("the sampled loss", abs(sampled - full), 0.01)
    return f"mean sampled loss of 32 draws against the full softmax over {int(seen.sum())} items: off by {off}"


def forget_peak() -> int:
    """Resets the peak to the resident memory of now, if the system allows it (Linux). Returns it in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """Largest resident memory in bytes: VmHWM if there is one, else ru_maxrss, which cannot be reset."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(
        measure,
        negatives={"type": int, "default": 1024},
        steps={"type": int, "default": 5, "help": "steps in each repeat"},
    )
