"""What else teaches the head of an item memory: sources, as shops of several sizes, or an earlier run."""

import numpy as np
import torch

from recbole_metarec.data.batches import BatchStream, SequenceBatch, SequenceBatches
from recbole_metarec.data.pair_counts import PairCounts
from recbole_metarec.data.sequences import HistorySplit, SequenceStore, training_windows
from recbole_metarec.errors import CheckpointError
from recbole_metarec.files import model_file
from recbole_metarec.model.item_memory import Evidence, ItemMemory, without_lift
from recbole_metarec.model.memory_cells import PairTable
from recbole_metarec.randomness import numpy_stream
from recbole_metarec.trainer.checkpoint import read_checkpoint

SHARES = (0.03, 0.1, 0.3, 1.0)  # of a source's users: a head that has seen only full shops reads small ones badly
FEWEST_USERS = 50


@torch.no_grad()
def start_from(memory: ItemMemory, run: str) -> None:
    """Copies the head and the offsets of a run's item memory into this one. run: its folder, or its ``model.pth``.

    Raises CheckpointError if that run has no item memory of the same shape.
    """
    file = model_file(run)
    saved = without_lift(read_checkpoint(file).get("state_dict") or {})
    for name, parameter in memory.shared_weights().items():
        value = saved.get(f"memory.{name}")
        if value is None and name.startswith(("texts.", "head.network.")):
            continue  # that run had no texts, or no network in its head
        if value is None or value.shape != parameter.shape or not value.isfinite().all():
            raise CheckpointError(f"memory_from: {file}: holds no item memory; give a run with item_memory: True")
        parameter.copy_(value)


class Lessons:
    """Batches from subsamples of one source's users, in turn, each with the pair counts of these users alone.

    Each user's last events are held out here, too, as in a target: half of a small shop's catalogue then has no counted
    event. If all events were counted, an item with no event besides the row's own could only be the answer.
    """

    def __init__(
        self,
        store: SequenceStore,
        name: str,
        longest: int,
        budget: int,
        seed: int,
        most: int,
        device: torch.device,
        texts: torch.Tensor | None = None,
    ):
        """budget: events in a batch. most: kept neighbours of each item. texts [n, w]: vectors of length 1.

        device: where the evidence is; batches are on the CPU.
        """
        self.batches_given = 0
        self.evidence, self.streams = [], []
        for part, items in _subsamples(store, name, seed):
            kept = HistorySplit.leave_one_out(part.lengths).trained
            counts = PairCounts.of(part, kept, most)
            table = PairTable(part.n_items, len(counts.neighbours)).to(device)
            table.fill(counts)
            self.evidence.append(Evidence(table, None if texts is None else texts[torch.from_numpy(items).to(device)]))
            windows = training_windows(part, kept, longest)
            self.streams.append(BatchStream(SequenceBatches(part, windows, budget, seed, f"{name}, {len(part.users)}")))

    def __next__(self) -> tuple[SequenceBatch, Evidence]:
        number = self.batches_given % len(self.streams)
        self.batches_given += 1
        return next(self.streams[number]), self.evidence[number]

    def state_dict(self) -> dict:
        """How many batches were given, and the position of each stream."""
        return {"given": self.batches_given, "streams": [stream.state_dict() for stream in self.streams]}

    def load_state_dict(self, state: dict) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.batches_given = state["given"]
        for stream, saved in zip(self.streams, state["streams"], strict=True):
            stream.load_state_dict(saved)


def _subsamples(store: SequenceStore, name: str, seed: int) -> list[tuple[SequenceStore, np.ndarray]]:
    """Nested subsamples of the users, each with the items of these users alone, as a small shop has them.

    With each the numbers of its items in the source, int64. Subsamples with too few users are left out, but never the
    whole.
    """
    order = numpy_stream(seed, "subsamples", name).permutation(len(store.users))
    sizes = [round(share * len(order)) for share in SHARES]
    return [store.of_users(np.sort(order[:size])).compact() for size in sizes if size >= min(FEWEST_USERS, len(order))]
