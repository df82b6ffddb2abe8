"""Times that float32 cannot tell apart: with exact_time the true last event is the test item, as RecBole splits."""

import logging
import re

import numpy as np
import pytest
from support.worlds import Run, write_domain

from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.errors import ConfigError
from recbole_metarec.plugin.baselines import load_data
from recbole_metarec.plugin.config import read_dataset, recbole_config

USERS, ITEMS, LENGTH = 40, 15, 6


@pytest.fixture(params=[1, 1000], ids=["seconds", "milliseconds"])
def world(request, tmp_path):
    """Folder and, for each user, items and Unix times: a minute or so in all, where float32 has steps of 128 s."""
    random = np.random.default_rng(3)
    items = [random.permutation(ITEMS)[:LENGTH].tolist() for _ in range(USERS)]
    times = [(1_500_000_000 + random.permutation(90)[:LENGTH]) * request.param for _ in range(USERS)]
    write_domain(tmp_path, "Clock", items, [row.tolist() for row in times])
    return tmp_path, items, times


def last_items(run: Run, rows) -> dict[str, str]:
    """User name -> name of the held-out item, in a validation or test set of RecBole."""
    feat = rows.dataset.inter_feat
    users = run.dataset.id2token("user_id", feat["user_id"].numpy())
    return dict(zip(users.tolist(), run.dataset.id2token("item_id", feat["item_id"].numpy()).tolist(), strict=True))


def made(folder, **given) -> Run:
    return Run(
        folder, "LRURec", "Clock", embedding_size=8, n_layers=1, **({"topk": [5], "valid_metric": "NDCG@5"} | given)
    )


def test_exact_time_holds_out_the_true_last_events(world, monkeypatch):
    folder, items, times = world
    monkeypatch.setenv("METAREC_CACHE", str(folder / "cache"))
    order = [np.argsort(row) for row in times]
    truth = [
        {f"Clock-u{user}": f"Clock-{items[user][order[user][place]]}" for user in range(USERS)} for place in (-2, -1)
    ]
    exact, coarse = made(folder, exact_time=True), made(folder)
    assert [last_items(exact, rows) for rows in (exact.valid, exact.test)] == truth
    without = last_items(coarse, coarse.test)
    assert without.keys() == truth[1].keys() and without != truth[1]


def test_the_training_histories_are_in_the_order_of_the_full_times(world, monkeypatch):
    folder, items, times = world
    monkeypatch.setenv("METAREC_CACHE", str(folder / "cache"))
    run = made(folder, exact_time=True)
    store = run.train.dataset.store
    names = run.dataset.id2token("user_id", store.users)
    for row, name in enumerate(names):
        user = int(name.removeprefix("Clock-u"))
        history = run.dataset.id2token("item_id", store.items[store.offsets[row] : store.offsets[row + 1]])
        assert [int(item.removeprefix("Clock-")) for item in history] == [
            items[user][i] for i in np.argsort(times[user])
        ]


def test_the_training_part_holds_no_event_that_is_held_out(tmp_path):
    """RecBole's collector and its general models count what stands in it."""
    histories = [[1, 2, 3, 4, 5], [2, 3, 1], [4, 5, 2, 1, 3, 2], [5, 4]]
    write_domain(tmp_path, "Clock", histories)
    train = made(tmp_path, topk=[3], valid_metric="NDCG@3").train.dataset
    fields = (train.id2token(field, train.inter_feat[field]) for field in ("user_id", "item_id"))
    trained = [row[: -min(2, max(0, len(row) - 2)) or None] for row in histories]
    expected = [(f"Clock-u{user}", f"Clock-{item}") for user, row in enumerate(trained) for item in row]
    assert sorted(zip(*fields, strict=True)) == sorted(expected)


def test_equal_times_and_repeated_rows_are_logged(tmp_path, caplog):
    write_domain(tmp_path, "Clock", [[1, 1, 2, 3, 4]] * 3, [[1, 1, 1, 2, 3]] * 3)
    with caplog.at_level(logging.INFO):
        made(tmp_path, topk=[3], valid_metric="NDCG@3", state="INFO")
    told = [record.getMessage() for record in caplog.records if "share one timestamp" in record.getMessage()]
    assert len(told) == 1 and "3 rows repeat an earlier" in told[0] and "6 neighbours" in told[0]


@pytest.mark.parametrize("model", ["LRURec", "SASRec", "FDSA"])
def test_more_items_than_there_are_cannot_be_asked_for(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("METAREC_CACHE", str(tmp_path / "cache"))
    write_domain(tmp_path, "Clock", [[1, 2, 3, 4, 5]] * 3)
    (tmp_path / "Clock" / "Clock.item").write_text("item_id:token\ttext:token_seq\nClock-1\ta hat\n")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text"]}
    more = {"load_col": columns, "selected_features": ["text"]} if model == "FDSA" else {}
    told = re.escape("topk is [5, 6], but Clock has 5 items; ask for fewer, such as --topk=[5]")
    given = {"data_path": str(tmp_path), "state": "ERROR", "topk": [5, 6], "valid_metric": "NDCG@5", **more}
    config = recbole_config(RunConfig.read(model, "Clock", (), given))
    with pytest.raises(ConfigError, match=told):
        load_data(config) if model != "LRURec" else read_dataset(config).build()
    if model == "LRURec":  # with the default it runs, and is told
        made(tmp_path, topk=[10, 50], valid_metric="NDCG@10")
        assert "topk is [10, 50], but Clock has 5 items, so every model has the right one among" in caplog.text
