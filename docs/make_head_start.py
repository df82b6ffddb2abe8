"""The numbers that the head of an item memory starts from, taught by lessons of several domains.

    python docs/make_head_start.py DATA Instruments Beauty Tools ...

prints them; recbole_metarec/model/item_memory.py holds them, rounded. Nothing of the shipped numbers is in the start
here, so that the result depends on the domains alone.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.data.domains import find_domain
from recbole_metarec.model.item_memory import ItemMemory
from recbole_metarec.plugin.config import recbole_config
from recbole_metarec.plugin.dataset import read_source_items
from recbole_metarec.trainer.lessons import Lessons

STEPS, RATE, SEED = 1500, 0.02, 2020
PLAIN = {
    "head.log_weights": 0.0, "head.log_shrinkage": 0.0, "head.exponents": 0.5, "head.decay": 1.0, "head.log_last": 0.0,
    "head.evidence_weight": 1.0, "head.log_epsilon": -3.0, "head.popularity_weight": 0.5,
    "seen.by_lag": -1.0, "seen.lift_weight": 1.0,
}  # fmt: skip


def lessons_of(name: str, data_path: str) -> Lessons:
    """Of all its users."""
    config = recbole_config(RunConfig.read("MetaRec", name, (), {"data_path": data_path, "sources": "none"}))
    store, _ = read_source_items(config, name, find_domain(name, data_path))
    sizes = config["MAX_ITEM_LIST_LENGTH"], config["train_batch_size"]
    return Lessons(store, name, *sizes, SEED, config["memory_neighbours"], torch.device("cpu"))


def taught(domains: list[Lessons]) -> dict[str, list]:
    """The head after STEPS steps of Adam, whose rate falls to 0, on the domains in turn."""
    memory = ItemMemory(1, 0)
    parameters = memory.shared_weights()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.fill_(PLAIN[name])
    optimizer = torch.optim.Adam(parameters.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for step in range(STEPS):
        optimizer.zero_grad()
        memory(*next(domains[step % len(domains)])).backward()
        optimizer.step()
        schedule.step()
    return {name: np.round(parameter.detach().numpy(), 2).tolist() for name, parameter in parameters.items()}


if __name__ == "__main__":
    data, *names = sys.argv[1:]
    for name, value in taught([lessons_of(name, data) for name in names]).items():
        print(name, value)
