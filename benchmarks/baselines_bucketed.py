"""An epoch of one of RecBole's sequential models: RecBole's loader against this package's bucketed, trimmed batches."""

from collections import Counter

import torch
from harness import Figure, Result, alternate, assert_close, main, ratios, seconds
from sides import Side, SomeBatches, build, named, recbole_epoch, recbole_events
from torch.nn import functional as F

from recbole_metarec.plugin.dataset import TransferDataset
from recbole_metarec.plugin.prefix_rows import trimmed_loaders

_MODELS = ("SASRec", "GRU4Rec", "BERT4Rec")


def measure(options) -> Result:
    side = build(options.model, options.data_path)
    loader = trimmed_loader(side)
    proof = f"{same_rows(side, loader)}; {same_loss(side, loader)}"
    batches = SomeBatches(side.train, options.batches)
    times = alternate(
        {
            "trimmed": lambda: seconds(lambda: side.trainer._train_epoch(loader, 0)),
            "recbole": lambda: recbole_epoch(side, batches),
        },
        options.repeats,
    )
    return Result(
        same=proof,
        reached=ratios(times["recbole"], times["trimmed"]),
        figures={
            f"{options.model} epoch, trimmed": Figure("s", times["trimmed"]),
            f"{options.model} epoch, RecBole's loader": Figure("s", times["recbole"]),
        },
        notes=f"RecBole's epoch is {len(batches)} of its {len(side.train)} batches of {side.train.batch_size} rows (a "
        f"fixed random choice), scaled; ours is whole, {len(loader)} batches. RecBole's Trainer runs both, with "
        "anomaly detection off.",
    )


def trimmed_loader(side: Side):
    """This package's training loader for one of RecBole's models, over the same data."""
    return trimmed_loaders(side.config, TransferDataset(side.config))[0]


def same_rows(side: Side, loader) -> str:
    """Compares the (user, target) pairs of both loaders. BERT4Rec's rows of one event, without loss, may be missing."""
    theirs, ours = recbole_events(side), Counter()
    data = loader.dataset
    for rows in loader:
        ours.update(named(data, rows[data.uid_field], rows[data.iid_field]))
    assert not ours - theirs, "the trimmed loader has rows that RecBole's has not"
    left_out = sum((theirs - ours).values())
    lengths = side.train._dataset.inter_feat[side.train._dataset.item_list_length_field]
    without_loss = int((lengths == 1).sum()) if side.config["model"] == "BERT4Rec" else 0
    assert left_out == without_loss, f"the trimmed loader leaves out {left_out} rows"
    hint = f" ({left_out} of one event, which carry no loss, left out)" if left_out else ""
    return f"same {sum(ours.values())} rows{hint}"


@torch.no_grad()
def same_loss(side: Side, loader, checked: int = 4) -> str:
    """Compares the loss of trimmed batches with that of the same rows at RecBole's full width, without dropout."""
    model, length = side.model.eval(), side.config["MAX_ITEM_LIST_LENGTH"]
    off, widths, field = 0.0, [], f"{loader.dataset.iid_field}_list"
    for _, rows in zip(range(checked), loader):
        widths.append(rows[field].shape[1])
        trimmed = float(model.calculate_loss(rows))
        for name in rows.columns:
            if name.endswith(field):
                rows.interaction[name] = F.pad(rows[name], (0, length - rows[name].shape[1]))
        off = max(off, abs(trimmed - float(model.calculate_loss(rows))))
    assert min(widths) < length, "no batch was narrower than RecBole's"
    return f"same loss at widths {widths} as at {length}, max diff {assert_close('loss', off, 1e-4)}"


if __name__ == "__main__":
    main(
        measure,
        model={"default": "SASRec", "choices": _MODELS},
        batches={"type": int, "default": 3, "help": "RecBole's batches in each repeat"},
    )
