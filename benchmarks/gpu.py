"""Everything that only a GPU can show, in one call of some minutes: agreement with the CPU, speed, kernels, waits,
bandwidth.

For each kind of step: how far its gradient is from the CPU's; steps per second by the wall clock; kernels and waits, as
PyTorch's profiler counts them; and which share of its time moving its bytes alone would take, at the rate of a large
copy in the same run. Sources are relabelled copies of the target, as in meta_step.py. The script is no row of
results.md. ``--device cpu`` tries it without a GPU.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from harness import machine
from meta_step import write_relabelled
from sides import Side, build
from torch.profiler import ProfilerActivity, profile

from recbole_metarec.files import write_json
from recbole_metarec.randomness import Streams
from recbole_metarec.serve import Recommender

_TARGET = "Scientific"
_PUBLISHED = {"item_memory": False, "seen_offset": False}
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
CASES = {
    "plain": ("LRURec", _PUBLISHED),
    "plain with the item memory": ("LRURec", {}),
    "plain, sampled": ("LRURec", _PUBLISHED | {"target_negatives": 512}),
    "seven sources": ("MetaRec", _PUBLISHED),
    "seven sources, their batches a seventh": ("MetaRec", _PUBLISHED | {"source_batch_size": "auto"}),
    "seven sources with the item memory": ("MetaRec", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", required=True, help=f"folder that holds {_TARGET}/{_TARGET}.inter")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20, help="measured steps of each kind")
    parser.add_argument("--sources", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    data, out, sys.argv = Path(options.data_path).absolute(), options.out.absolute(), sys.argv[:1]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = _write_domains(data, Path(folder) / "domains", options.sources)
        results = {"machine": machine(), "bytes a second": _copied(options.device)}
        for case, (model, keys) in CASES.items():
            keys = keys | ({"sources": names} if model == "MetaRec" else {})
            results[case] = _measured(model, keys, options.device, options.steps, results["bytes a second"])
            print(case, json.dumps(results[case]), flush=True)
            write_json(out, results)  # after each case, in case time runs out
        results["serving"] = _served(options.device)
        write_json(out, results)
        print("serving", json.dumps(results["serving"]))
        os.chdir(out.parent)


def _write_domains(data: Path, folder: Path, sources: int) -> list[str]:
    folder.mkdir()
    (folder / _TARGET).symlink_to(data / _TARGET)
    target, names = build("LRURec", str(folder)), [f"Copy{number}" for number in range(1, sources + 1)]
    for number, name in enumerate(names):
        write_relabelled(target, folder, name, number)
    return names


def _measured(model: str, keys: dict, device: str, steps: int, bandwidth: float) -> dict:
    side = build(model, "domains", **keys | {"device": device})
    difference = _off_the_cpu(model, keys, device)
    walk = _Walk(side)
    walk.steps(3)  # the optimiser creates its state, the allocator its blocks
    _settle(device)
    started = time.perf_counter()
    walk.steps(steps)
    _settle(device)
    a_step = (time.perf_counter() - started) / steps
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device != "cpu")
    with profile(activities=activities) as profiled:
        walk.steps(1)
        _settle(device)
    calls = {event.key: event.count for event in profiled.key_averages()}
    moved = _least_bytes(side)
    return {
        "gradient off the CPU's by": difference,
        "steps a second": 1 / a_step,
        "kernels": sum(calls.get(name, 0) for name in _LAUNCHES),
        "waits": sum(calls.get(name, 0) for name in _WAITS),
        "share of the bandwidth's limit": moved / bandwidth / a_step,
    }


class _Walk:
    """Whole training steps, one after another; starts a new epoch when one ends."""

    def __init__(self, side: Side):
        self.side, self.epoch, self.batches = side, 0, iter(side.train)
        self.streams = Streams(side.trainer.device, side.config["seed"], "dropout", 0)

    def steps(self, count: int) -> None:
        trainer = self.side.trainer
        for _ in range(count):
            if (interaction := next(self.batches, None)) is None:
                self.batches = iter(self.side.train)
                interaction = next(self.batches)
            batch = self.side.model.batch_of(interaction)
            trainer._apply(trainer._one_step(batch, self.streams), 0)


def _off_the_cpu(model: str, keys: dict, device: str) -> float | None:
    """Distance of a first step's gradient from the CPU's, relative to its norm, without dropout."""
    if keys.get("target_negatives"):  # each device draws other ones
        return None
    gradients = []
    for one in ("cpu", device):
        side = build(model, "domains", **keys | {"device": one, "dropout_prob": 0.0, "target_batch": "shared"})
        batch = side.model.batch_of(next(iter(side.train)))
        streams = Streams(side.trainer.device, side.config["seed"], "dropout", 0)
        gradient = side.trainer._one_step(batch, streams).gradient
        gradients.append(torch.cat([value.detach().cpu().flatten() for value in gradient.values()]))
    return float((gradients[1] - gradients[0]).norm() / gradients[0].norm())


def _least_bytes(side: Side) -> int:
    """The bytes that a step must at least move: it reads parameters, gradients and both moments, of the model and of
    the sources' tables, and writes all of them but the gradients."""
    tensors = [*side.model.parameters(), *(t for source in side.trainer.sources for t in source.tensors)]
    return 7 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _copied(device: str) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.zeros(1 << 28 if device != "cpu" else 1 << 24, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    _settle(device)
    started = time.perf_counter()
    for _ in range(10):
        target.copy_(source)
    _settle(device)
    return 20 * source.numel() / (time.perf_counter() - started)


def _served(device: str) -> dict:
    """Users per minute of recommendations in bulk, and the share of users for whom both devices agree."""
    side = build("LRURec", "domains", device="cpu")
    names = [str(name) for name in side.train.dataset.id2token("item_id", range(side.model.n_items))]
    histories = [[names[1 + (user * 7 + k * k) % (len(names) - 1)] for k in range(8)] for user in range(4096)]
    answers = []
    for one in ("cpu", device):
        recommender = Recommender(side.model, names, device=one)
        recommender.recommend_many(histories[:64])
        started = time.perf_counter()
        answers.append(recommender.recommend_many(histories, k=10))
        took = time.perf_counter() - started
    same = sum({item for item, _ in a} == {item for item, _ in b} for a, b in zip(*answers, strict=True))
    return {"users a minute": 60 * len(histories) / took, "same top 10": same / len(histories)}


def _settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
