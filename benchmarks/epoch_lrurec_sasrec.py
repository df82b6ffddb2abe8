"""An epoch of LRURec (this package) against an epoch of SASRec (RecBole's dataset, loader and trainer)."""

from harness import Figure, Result, alternate, main, ratios
from sides import SomeBatches, build, our_events, recbole_epoch, recbole_events


def measure(options) -> Result:
    ours, theirs = build("LRURec", options.data_path), build("SASRec", options.data_path)
    events = our_events(ours)
    assert events == recbole_events(theirs), "the two sides train on different (user, target) pairs"
    batches = SomeBatches(theirs.train, options.batches)
    times = alternate({"ours": ours.epoch, "recbole": lambda: recbole_epoch(theirs, batches)}, options.repeats)
    return Result(
        same=f"same {sum(events.values())} (user, target) pairs, each as often",
        reached=ratios(times["recbole"], times["ours"]),
        figures={
            "LRURec epoch": Figure("s", times["ours"]),
            "RecBole's SASRec epoch": Figure("s", times["recbole"]),
        },
        notes=f"RecBole's epoch is {len(batches)} of its {len(theirs.train)} batches of {theirs.train.batch_size} rows "
        f"(a fixed random choice, {100 * batches.share:.0f} % of the rows), scaled. It runs with autograd's anomaly "
        "detection off, which importing this package mends and which favours RecBole.",
    )


if __name__ == "__main__":
    main(measure, batches={"type": int, "default": 6, "help": "RecBole's batches in each repeat"})
