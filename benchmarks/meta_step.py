"""One meta step with M sources against M + 1 plain steps, where every source is as large as the target."""

import csv
from pathlib import Path

import numpy as np
from harness import Figure, Result, alternate, assert_close, main, ratios
from sides import Side, build

from recbole_metarec.randomness import Streams

_TARGET = "Scientific"


def measure(options) -> Result:
    folder = Path("domains").absolute()
    (folder / _TARGET).parent.mkdir()
    (folder / _TARGET).symlink_to(Path(options.data_path) / _TARGET)
    plain = build("LRURec", str(folder))
    names = [f"Copy{number}" for number in range(1, options.sources + 1)]
    for number, name in enumerate(names):
        write_relabelled(plain, folder, name, number)
    settings = {"sources": names, "second_order": False, "target_batch": "split"}
    settings["source_batch_size"] = options.source_batch_size
    proof = same_gradient(str(folder), settings)
    meta = build("MetaRec", str(folder), source_negatives=options.source_negatives, **settings)
    sizes = [len(side.table) for side in meta.trainer.sources]
    times = alternate({"meta": meta.epoch, "plain": plain.epoch}, options.repeats)
    passes = options.sources + 1
    sampled = f"{options.source_negatives} sampled negatives" if options.source_negatives else "full softmax"
    return Result(
        same=proof,
        reached=[value / passes for value in ratios(times["meta"], times["plain"])],
        figures={
            f"epoch of meta steps, {options.sources} sources": Figure("s", times["meta"]),
            "epoch of plain steps": Figure("s", times["plain"]),
        },
        notes=f"An epoch is {len(plain.train)} steps on either side. Sources: relabelled copies of the target's "
        f"training part ({min(sizes) - 1} of its {plain.model.n_items - 1} items occur in it), {sampled} on them; "
        f"all other keys as shipped, so similarities, diagnostics and the sources' optimiser are included.",
    )


def write_relabelled(target: Side, folder: Path, name: str, seed: int) -> None:
    """Writes NAME.inter: the target's training events with other names of users and items, items in another order."""
    data = target.train.dataset
    users, items = (data.inter_feat[field].numpy() for field in (data.uid_field, data.iid_field))
    other = np.random.default_rng(seed).permutation(data.item_num)
    (folder / name).mkdir()
    with open(folder / name / f"{name}.inter", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["user_id:token", "item_id:token", "timestamp:float"])
        # the number of a row rises with time within each user's history
        times = np.arange(len(users)) - np.searchsorted(users, users)
        writer.writerows(
            (f"{name}-u{user}", f"{name}-i{other[item]}", time) for user, item, time in zip(users, items, times)
        )


def same_gradient(data_path: str, settings: dict) -> str:
    """Checks that a meta step whose trial moves nothing (alpha = 0) has the plain step's gradient, without dropout."""
    plain = build("LRURec", data_path, dropout_prob=0.0)
    meta = build("MetaRec", data_path, dropout_prob=0.0, inner_learning_rate=0.0, **settings)
    meta.model.load_state_dict(plain.model.state_dict())
    interaction = next(iter(plain.train))
    gradients = []
    for side in (plain, meta):
        streams = Streams(side.trainer.device, side.config["seed"], "dropout", 0)
        gradients.append(side.trainer._one_step(side.model.batch_of(interaction), streams).gradient)
    # an item memory learns from a sample of a batch's positions, which is another one if the batch is dealt out
    compared = {name: value for name, value in gradients[0].items() if not name.startswith("memory.")}
    off = max(float((gradients[1][name] - value).norm() / value.norm()) for name, value in compared.items())
    return f"at alpha = 0, split: the plain step's gradient, off by {assert_close('gradient', off, 1e-4)} of its norm"


if __name__ == "__main__":
    main(
        measure,
        sources={"type": int, "default": 7},
        source_batch_size={"default": "same", "help": "events of a source's batch, as the config key of that name"},
        source_negatives={"type": int, "default": 0, "help": "0: full softmax on the sources"},
    )
