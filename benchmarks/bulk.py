"""Recommendations in bulk: from the file of Instruments the ten best unseen items of all its users, as Parquet.

With ``--memory`` scores also come from the item memory and the offsets of seen items.
"""

from pathlib import Path
from time import process_time

import polars as pl
from harness import Figure, Result, assert_close, main, seconds
from sides import build

from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.serve import DataOrigin, Recommender
from recbole_metarec.serving.bulk import write_recommendations

_DATASET = "Instruments"  # 9,922 items
_CHECKED = 50  # users whose rows in the output are compared


def measure(options) -> Result:
    ours = build("LRURec", options.data_path, _DATASET, item_memory=options.memory, seen_offset=options.memory)
    if options.memory:
        ours.model.lru_share.fill_(0.5)  # so that the encoder's scores are part of the work
    data, output = ours.train.dataset, Path("recs.parquet")
    names = [str(name) for name in data.id2token(data.iid_field, range(data.item_num))]
    origin = DataOrigin.of(config_to_json(ours.config), "LRURec")

    def run() -> Recommender:
        recommender = Recommender(ours.model, names, origin)  # a new one, which reads the file again
        write_recommendations(recommender, list(recommender.histories().rows), output)
        return recommender

    recommender = run()
    users = list(recommender.histories().rows)
    proof = same_answers(recommender, users[:: len(users) // _CHECKED], output)
    took, busy = [], []
    for _ in range(options.repeats):
        started = process_time()
        took.append(seconds(run))
        busy.append(process_time() - started)
    lengths = recommender.histories().store.lengths
    return Result(
        same=proof,
        reached=[60 * len(users) / each for each in took],
        figures={f"{len(users):,} users": Figure("s", took), "of a processor": Figure("s", busy)},
        notes=f"d = {ours.config['embedding_size']}, {len(names) - 1:,} items, {lengths.mean():.1f} events a user, at "
        f"most {lengths.max()}; reading {_DATASET}.inter and writing {len(users) * 10:,} rows are part of it.",
    )


def same_answers(recommender: Recommender, users: list[str], output: Path) -> str:
    """Compares the output's rows of some users with recommendations for each of their histories alone."""
    table, off = pl.read_parquet(output), 0.0
    for user in users:
        rows = table.filter(user=user)
        alone = dict(recommender.recommend(recommender.history_of(user), len(recommender.items)))
        off = max(off, *(abs(alone[item] - score) for item, score in rows.select("item", "score").iter_rows()))
        best = sorted(alone.values(), reverse=True)[: len(rows)]
        off = max(off, *(abs(a - b) for a, b in zip(best, rows["score"].to_list(), strict=True)))
    return f"the rows of {len(users)} users = each history by itself, off by {assert_close('score', off, 1e-4)}"


if __name__ == "__main__":
    main(measure, memory={"action": "store_true", "help": "with the item memory and the offsets of seen items"})
