"""The split by time and the validation without seen items, for every kind of model, against plain loops."""

from collections import Counter

import numpy as np
import pytest
import torch
from support.item_worlds import ONE_LAYER
from support.worlds import TINY, Run, cluster_histories, write_domain

# isort: split
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer

from recbole_metarec.compare.target import describe
from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import DataError
from recbole_metarec.evaluation.ranking import rank_all, rank_both
from recbole_metarec.evaluation.seen import events_of
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import make_plan
from recbole_metarec.plugin.baselines import load_data
from recbole_metarec.plugin.config import read_dataset, recbole_config, split_dataset

L = 4
DAY = 86400
START = 1_500_000_000  # 2017-07-14 02:40 UTC
# our model, a baseline that is fitted, RecBole's: with trimmed rows, with its own loaders, and one of pairs
MODELS = ["LRURec", "ItemKNNDecay", "SASRec", "STAMP", "BPR"]


def histories(seed: int = 3):
    return cluster_histories(seed, 40, 12, 4, 0.8, length=(1, 16))


def times_of(made, seed: int = 5):
    """Sorted days from START; several events may share one."""
    random = np.random.default_rng(seed)
    return [(START + DAY * np.sort(random.integers(0, 100, len(items)))).tolist() for items in made]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    made = histories()
    write_domain(folder, "Target", made, times_of(made))
    return folder


def loaders_of(shop, model, **given):
    keys = {} if model_spec(model).is_ours else dict(ONE_LAYER)
    keys |= {"MAX_ITEM_LIST_LENGTH": L, "topk": [3], "valid_metric": "NDCG@3", "data_path": str(shop)} | given
    config = recbole_config(RunConfig.read(model, "Target", (), keys))
    if model_spec(model).is_ours:
        return config, split_dataset(config, read_dataset(config))
    return config, load_data(config)


def by_time(*points) -> dict:
    return {"eval_args": {"split": {"TS": list(points)}}}


def rows_by_loop(first: float, second: float):
    """(trained events, validation rows, test rows) by name: a user's first event in a period, if one came before."""
    made = histories()
    trained, rows = Counter(), ({}, {})
    for user, (items, stamps) in enumerate(zip(made, times_of(made), strict=True)):
        name = f"Target-u{user}"
        trained.update((name, f"Target-{item}") for item, stamp in zip(items, stamps) if stamp < first)
        for found, start, end in ((rows[0], first, second), (rows[1], second, np.inf)):
            before = [item for item, stamp in zip(items, stamps) if stamp < start]
            inside = [item for item, stamp in zip(items, stamps) if start <= stamp < end]
            if before and inside:
                found[name] = tuple(f"Target-{item}" for item in before), f"Target-{inside[0]}"
    return trained, *rows


def rows_of(dataset) -> dict:
    names = [dataset.id2token(field, range(dataset.num(field))) for field in ("user_id", "item_id")]
    feat = dataset.inter_feat
    columns = (feat[key].numpy() for key in ("user_id", "item_id_list", "item_length", "item_id"))
    return {
        names[0][user]: (tuple(names[1][history[:length]]), names[1][item])
        for user, history, length, item in zip(*columns, strict=True)
    }


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_the_events_and_rows_of_a_split_by_time(shop, model):
    first, second = START + 60 * DAY, START + 80 * DAY
    _, loaders = loaders_of(shop, model, **by_time(first, second))
    train, valid, test = (loader.dataset for loader in loaders)
    trained, *expected = rows_by_loop(first, second)
    assert min(len(trained), *map(len, expected)) > 5
    found = Counter(
        (str(train.id2token("user_id", user)), str(train.id2token("item_id", item)))
        for user, item in zip(*events_of(train), strict=True)
    )
    # RecBole's prefix rows know no user who has trained but one event
    lonely = {user for user, count in Counter(user for user, _ in trained.elements()).items() if count == 1}
    missing = lonely if model == "STAMP" else set()
    assert found == Counter({pair: count for pair, count in trained.items() if pair[0] not in missing})
    for part, rows in zip((valid, test), expected):
        assert rows_of(part) == {user: (history[-L:], target) for user, (history, target) in rows.items()}
        for row, user in enumerate(rows_of(part)):
            history, _ = rows[user]
            _, seen = part.seen.of_rows(np.array([row]))
            named = {str(part.id2token("item_id", item)) for item in seen}
            assert named == set(history), "the whole history, what comes between the two points included"


def made_of(net) -> list:
    if hasattr(net, "memory"):
        return list(net.memory.pairs.state_dict().values())
    return [net.counts] if hasattr(net, "counts") else [net.similarity.toarray(), net.prior]


def test_nothing_that_comes_later_reaches_what_a_model_is_made_of(tmp_path):
    """Whoever buys what after the first point: weights of the fitted baseline and counts of the memory stay."""
    made, states = histories(), []
    stamps = times_of(made)
    first, second = START + 60 * DAY, START + 80 * DAY
    for number in range(2):
        random = np.random.default_rng(number)
        changed = [
            [item if stamp < first else int(random.integers(12)) for item, stamp in zip(items, times)]
            for items, times in zip(made, stamps)
        ]
        changed.append(list(range(12)))  # so that items have the same numbers
        folder = tmp_path / str(number)
        write_domain(folder, "Target", [changed[-1], *changed[:-1]], [list(range(START - 12, START)), *stamps])
        state = []
        for model in ("LRURec", "ItemKNNDecay", "SequentialPop"):
            config, (train, *_) = loaders_of(folder, model, **by_time(first, second))
            state += map(np.asarray, made_of(get_model(model)(config, train.dataset)))
        states.append(state)
    assert all(np.array_equal(one, other) for one, other in zip(*states, strict=True)) and states[0][-1].sum() > 50


def test_shares_are_points_in_time_and_dates_are_read_in_the_unit_of_the_file(tmp_path):
    made = histories()
    stamps = times_of(made)
    ordered = np.sort(np.concatenate(stamps))
    starts = [int(ordered[int(share * len(ordered))]) for share in (0.7, 0.85)]
    trained, valid, test = rows_by_loop(*starts)
    for scale in (1, 1000):
        folder = tmp_path / str(scale)
        write_domain(folder, "Target", made, [[stamp * scale for stamp in times] for times in stamps])
        dates = [str(np.datetime64(start, "s")) for start in starts]
        for points in ((0.7, 0.15, 0.15), (14, 3, 3), [start * scale for start in starts], dates):
            _, loaders = loaders_of(folder, "LRURec", **by_time(*points))
            assert len(loaders[0].dataset.inter_feat) == trained.total()
            assert [rows_of(loader.dataset).keys() for loader in loaders[1:]] == [valid.keys(), test.keys()]


def test_times_that_count_each_users_events_are_refused(tmp_path):
    write_domain(tmp_path, "Target", histories())
    for model in ("LRURec", "STAMP"):
        with pytest.raises(DataError, match=r"Target\.inter: its timestamps only number .*; leave the split"):
            loaders_of(tmp_path, model, **by_time(0.8, 0.1, 0.1))


def test_original_times_count_where_the_file_has_them(tmp_path, shop):
    """As prepare writes a domain: ``timestamp`` is the place in the history."""
    lines = ["user_id:token\titem_id:token\ttimestamp:float\toriginal_timestamp:float"]
    made = histories()
    for user, (items, stamps) in enumerate(zip(made, times_of(made))):
        events = enumerate(zip(items, stamps))
        lines += [f"Target-u{user}\tTarget-{item}\t{place}\t{stamp}" for place, (item, stamp) in events]
    (tmp_path / "Target").mkdir()
    (tmp_path / "Target" / "Target.inter").write_text("\n".join(lines) + "\n")
    points = by_time(START + 60 * DAY, START + 80 * DAY)
    for model in ("SASRec", "STAMP"):
        ours, theirs = (loaders_of(folder, model, **points)[1] for folder in (tmp_path, shop))
        for one, other in zip(ours[1:], theirs[1:]):
            assert rows_of(one.dataset) == rows_of(other.dataset)


def test_sources_end_where_the_targets_training_does(shop, tmp_path):
    made = histories(8)
    stamps = times_of(made, 9)
    write_domain(tmp_path, "Near", made, stamps)
    write_domain(tmp_path, "Places", made)
    write_domain(tmp_path, "Millis", made, [[stamp * 1000 for stamp in times] for times in stamps])
    target = histories()
    write_domain(tmp_path, "Target", target, times_of(target))
    first = START + 60 * DAY

    def sources(*names):
        _, (train, *_) = loaders_of(
            tmp_path, "MetaRec", **by_time(first, first + 20 * DAY), sources=list(names), **{"vq_heads": 0}
        )
        return train.dataset.sources

    (near,) = sources("Near")
    expected = [stamp < first for times in stamps for stamp in times]
    assert 20 < sum(expected) < len(expected) and near.store.lengths.sum() == sum(expected)
    with pytest.raises(DataError, match=r"Places\.inter: its timestamps only number each user's events"):
        sources("Places")
    with pytest.raises(DataError, match=r"Millis\.inter: its times are not in the unit of the target's"):
        sources("Millis")


@pytest.mark.parametrize(
    ("points", "message"),
    [((START - 9, START - 5), "no validation row is left: no user has an event in its period and one before it"),
     ((START + DAY, START + 900 * DAY), "no test row is left")],
)  # fmt: skip
def test_a_period_without_a_row_is_an_error(shop, points, message):
    for model in ("LRURec", "STAMP"):
        with pytest.raises(DataError, match=message):
            loaders_of(shop, model, **by_time(*points))


def test_a_comparison_says_how_its_events_are_split(shop):
    given = {"data_path": str(shop), "topk": [3], "valid_metric": "NDCG@3"}
    plain = describe("Target", given)[0]
    timed = describe("Target", given | by_time("2017-09-12", "2017-10-02") | {"repeatable": False})[0]
    assert plain.split == "leave-one-out in time order, whole catalogue ranked"
    assert timed.split.startswith("by time: training before 2017-09-12 00:00 UTC, then validation (")
    assert "NDCG@3 on validation with seen items removed chooses" in timed.line and timed.validated == "removed"


def test_a_result_of_one_protocol_is_never_taken_for_that_of_another(shop):
    """By its recipe a run is found again, in a store and in a file of rows."""
    given = {"data_path": str(shop), "topk": [3], "valid_metric": "NDCG@3"}
    protocols = {}, by_time(0.8, 0.1, 0.1), by_time(0.7, 0.2, 0.1), by_time("2017-09-12", "2017-10-02")
    plans = [
        make_plan(competitors(["LRURec", "SASRec"]), "Target", [1], given | protocol)
        for protocol in (*protocols, {"repeatable": False})
    ]
    for runs in zip(*plans, strict=True):
        assert len({run.recipe for run in runs}) == len(plans)
    (again,) = make_plan(competitors(["LRURec"]), "Target", [1], given)
    assert again.recipe == plans[0][0].recipe


@pytest.mark.parametrize("points", [(), (0.7, 0.15, 0.15)])
def test_every_model_is_measured_on_the_same_users_where_some_are_enough(shop, points):
    given = by_time(*points) if points else {}
    everybody = [len(loader._dataset.inter_feat) for loader in loaders_of(shop, "LRURec", **given)[1]]
    found = {}
    for model, seed, most in (("LRURec", 1, 7), ("LRURec", 2, 7), ("SASRec", 1, 7), ("STAMP", 1, 7), ("LRURec", 1, 9)):
        _, loaders = loaders_of(shop, model, seed=seed, eval_users=most, **given)
        if model == "LRURec":
            assert len(loaders[0]._dataset.inter_feat) == everybody[0] and most < min(everybody[1:])
        rows = [loader._dataset.inter_feat[["user_id", "item_id"][at]] for loader in loaders[1:] for at in (0, 1)]
        found[model, seed, most] = [values.tolist() for values in rows]
    first, *others = (rows for (_, _, most), rows in found.items() if most == 7)
    assert all(rows == first for rows in others) and len(first[0]) == len(first[2]) == 7
    assert all(set(few) < set(more) for few, more in zip(first[::2], found["LRURec", 1, 9][::2]))
    told = describe("Target", {"data_path": str(shop), "topk": [3], "valid_metric": "NDCG@3", "eval_users": 7} | given)
    assert "measured on 7 users" in told[0].split and len(told[2]) == 7


# -- validation without seen items -------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [(), (0.7, 0.15, 0.15)])
@pytest.mark.parametrize("model", ["LRURec", "ItemKNNDecay", "SASRec", "STAMP"])
def test_training_validates_without_seen_items_where_that_is_asked_for(shop, model, points):
    """The trainer's own validation, and RecBole's on the same scores, against the second ranking of every report."""
    given = {"repeatable": False} | (by_time(*points) if points else {})
    config, (train, valid, _) = loaders_of(shop, model, **given)
    net = get_model(model)(config, train.dataset)
    for weights in net.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, net)
    kept, removed = rank_both(net, valid, valid.dataset.seen, torch.device("cpu"))
    assert not np.array_equal(kept, removed)
    assert np.array_equal(rank_all(net, valid, torch.device("cpu")), removed)
    expected = np.where(removed <= 3, 1 / np.log2(removed + 1), 0).mean()
    for evaluate in (trainer.evaluate, lambda *args, **keys: Trainer.evaluate(trainer, *args, **keys)):
        assert evaluate(valid, load_best_model=False)["ndcg@3"] == pytest.approx(expected, abs=1e-6)


def test_a_share_is_chosen_by_the_ranking_that_validation_reads(shop):
    run = Run(
        shop, model="LRURec", **(TINY | {"item_memory": True, "topk": [3], "valid_metric": "NDCG@3"}), repeatable=False
    )
    run.fit()
    removed = rank_both(run.model, run.valid, run.valid.dataset.seen, torch.device("cpu"))[1]
    score = run.trainer._valid_epoch(run.valid)[0]
    assert score == pytest.approx(np.where(removed <= 3, 1 / np.log2(removed + 1), 0).mean(), abs=1e-6)
