"""The embedded domains: the stated rule by brute force, disjointness, the 5-core, ranks, and what RecBole reads."""

import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from recbole_metarec.config.dataset_files import domain_settings
from recbole_metarec.data import embedded as movielens
from recbole_metarec.data.embedded import (
    CORE,
    EMBEDDED_DOMAINS,
    EMBEDDED_SOURCES,
    EMBEDDED_TARGET,
    GENRES,
    SHARES,
    cut_domains,
    ensure_embedded,
    movielens_dir,
)
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ensure_embedded(tmp_path_factory.mktemp("cache"))


def read(path):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    names = [field.split(":")[0] for field in lines[0].split("\t")]
    return pd.DataFrame([line.split("\t") for line in lines[1:]], columns=names)


@pytest.fixture(scope="module")
def raw():
    return read(movielens_dir() / "ml-100k.inter"), read(movielens_dir() / "ml-100k.item")


@pytest.fixture(scope="module")
def domains(folder):
    return {name: read(folder / name / f"{name}.inter") for name in EMBEDDED_DOMAINS}


def test_names_are_not_recbole_s():
    assert EMBEDDED_TARGET not in EMBEDDED_SOURCES and len({EMBEDDED_TARGET, *EMBEDDED_SOURCES}) == 4
    assert "ml-100k" not in EMBEDDED_DOMAINS and set(GENRES) == set(SHARES) == set(EMBEDDED_DOMAINS)


def test_no_two_domains_share_a_user_or_an_item(domains):
    for column in ("user_id", "item_id"):
        sets = [set(table[column]) for table in domains.values()]
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_the_target_has_hundreds_of_test_users_and_sources_are_alike(domains):
    assert domains[EMBEDDED_TARGET]["user_id"].nunique() >= 300
    sizes = [len(domains[name]) for name in EMBEDDED_SOURCES]
    assert max(sizes) < 1.5 * min(sizes)


def slow_homes(raw):
    """Users by repeated choice of the best pair that is still allowed, straight from the stated rule."""
    inter, item = raw
    domain_of = {}
    for number, genres in zip(item["item_id"], item["class"]):
        domain_of[number] = "ml-drama"
        for name in reversed(list(GENRES)):
            if any(genre in GENRES[name] for genre in genres.split()):
                domain_of[number] = name
    counts = {}
    for user, number in zip(inter["user_id"], inter["item_id"]):
        counts.setdefault(user, dict.fromkeys(GENRES, 0))[domain_of[number]] += 1
    total = {name: sum(row[name] for row in counts.values()) for name in GENRES}
    room = {name: len(counts) * SHARES[name] // 5 for name in GENRES}
    room[EMBEDDED_TARGET] = len(counts) - sum(room[name] for name in EMBEDDED_SOURCES)
    pairs = [
        (Fraction(row[name], sum(row.values())) / Fraction(total[name], len(inter)), -int(user), name)
        for user, row in counts.items()
        for name in GENRES
    ]
    homes = {}
    for _, user, name in sorted(pairs, key=lambda p: (-p[0], -p[1], p[2])):
        if str(-user) not in homes and room[name]:
            homes[str(-user)] = name
            room[name] -= 1
    assert not any(room.values()) and len(homes) == len(counts)
    return homes, domain_of


def slow_core(pairs):
    """The 5-core by taking away one user or item at a time (the result does not depend on the order)."""
    pairs = set(pairs)
    while True:
        for side in (0, 1):
            counts = {}
            for pair in pairs:
                counts.setdefault(pair[side], set()).add(pair)
            thin = next((gone for gone in counts.values() if len(gone) < CORE), None)
            if thin:
                pairs -= thin
                break
        else:
            return pairs


def test_the_cut_follows_its_rule(raw, domains):
    homes, domain_of = slow_homes(raw)
    inter, _ = raw
    for name, table in domains.items():
        own = [(u, i) for u, i in zip(inter["user_id"], inter["item_id"]) if homes[u] == name == domain_of[i]]
        assert set(zip(table["user_id"], table["item_id"])) == slow_core(own)
        assert len(table) == len(set(zip(table["user_id"], table["item_id"])))


def test_rows_are_the_raw_ones_in_the_raw_order(raw, domains):
    inter, _ = raw
    place = {pair: row for row, pair in enumerate(zip(inter["user_id"], inter["item_id"]))}
    for table in domains.values():
        rows = [place[pair] for pair in zip(table["user_id"], table["item_id"])]
        assert rows == sorted(rows)
        assert table["original_timestamp"].tolist() == inter["timestamp"].iloc[rows].tolist()
        assert table["rating"].tolist() == inter["rating"].iloc[rows].tolist()


def test_timestamp_is_the_rank_in_the_history(domains):
    for table in domains.values():
        histories = {}
        for row, (user, time) in enumerate(zip(table["user_id"], table["original_timestamp"])):
            histories.setdefault(user, []).append((int(time), row))
        for history in histories.values():
            ranks = [table["timestamp"].iat[row] for _, row in sorted(history)]
            assert ranks == [str(rank) for rank in range(len(history))]


def test_items_are_described_once_each(raw, folder, domains):
    _, item = raw
    titles = dict(zip(item["item_id"], item["movie_title"]))
    genres = dict(zip(item["item_id"], item["class"]))
    for name, table in domains.items():
        path = folder / name / f"{name}.item"
        assert path.read_text(encoding="utf-8").startswith("item_id:token\ttext:token_seq\n")
        texts = read(path)
        assert texts["item_id"].is_unique and set(texts["item_id"]) == set(table["item_id"])
        for number, text in zip(texts["item_id"], texts["text"]):
            assert text.startswith(f"{titles[number]}. {genres[number]}.")


def test_the_same_files_every_time(folder, tmp_path):
    again = ensure_embedded(tmp_path)
    assert again.name == folder.name
    for path in sorted(folder.glob("*/*")):
        assert (again / path.parent.name / path.name).read_bytes() == path.read_bytes()


def test_the_order_of_the_raw_rows_does_not_move_anybody(raw, domains):
    inter, item = raw
    rows = list(range(len(inter)))
    random.Random(3).shuffle(rows)
    for name, table in cut_domains(inter.iloc[rows], item.iloc[::-1]).items():
        assert set(zip(table["user_id"], table["item_id"])) == set(
            zip(domains[name]["user_id"], domains[name]["item_id"])
        )


def test_processes_may_race_and_leave_nothing_behind(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(ensure_embedded, [tmp_path] * 4))
    assert list(tmp_path.iterdir()) == list(answers)


def test_a_changed_rule_is_a_new_folder_and_a_damaged_one_is_mended(tmp_path, monkeypatch):
    first = ensure_embedded(tmp_path)
    (first / "ml-action" / "ml-action.inter").unlink()
    assert ensure_embedded(tmp_path) == first and (first / "ml-action" / "ml-action.inter").is_file()
    monkeypatch.setattr(movielens, "CORE", 6)
    assert ensure_embedded(tmp_path) != first


def test_what_cannot_be_made_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="set METAREC_CACHE"):
        ensure_embedded(tmp_path / "file")
    monkeypatch.setattr(movielens.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="reinstall recbole"):
        ensure_embedded(tmp_path)


def test_an_interrupted_build_leaves_no_folder(tmp_path, monkeypatch):
    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(movielens, "write_atomically", full_disk)
    with pytest.raises(DataError, match="No space left"):
        ensure_embedded(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", EMBEDDED_DOMAINS)
def test_recbole_reads_them_whole_and_the_yaml_says_how_much(name, folder):
    from recbole.config import Config
    from recbole.data.dataset import Dataset

    summary = read_domain(folder / name / f"{name}.inter", ReadSpec()).summary
    assert (summary.time_ties, summary.moved_float32) == (0, 0)
    known = domain_settings(name)
    dataset = Dataset(
        Config(
            model="SASRec",
            dataset=name,
            config_dict={
                "data_path": str(folder),
                "train_neg_sample_args": None,
                "normalize_all": False,
                "state": "ERROR",
                "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text"]},
                **known["preparation"],
            },
        )
    )
    read_sizes = (dataset.inter_num, dataset.user_num - 1, dataset.item_num - 1)
    assert read_sizes == (summary.events, summary.users, summary.items)
    statistics = known["statistics"]
    assert read_sizes == tuple(statistics[key] for key in ("interactions", "users", "items"))
    assert statistics["mean_length"] == round(summary.events / summary.users, 1)
