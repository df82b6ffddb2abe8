"""``recbole-metarec prepare`` from the raw file to a domain that every model can read, and what it refuses."""

import json
import zipfile
from pathlib import Path

import polars as pl
import pytest
from support.raw_files import (
    ATOMIC,
    ATOMIC_ITEMS,
    EVENTS,
    HISTORIES,
    META_2018,
    TEXTS,
    json_lines,
    review_2018,
    review_yelp,
    reviews,
    write,
)

from recbole_metarec.cli import main as cli
from recbole_metarec.config.dataset_files import domain_settings, known_domains
from recbole_metarec.data.domains import find_domain
from recbole_metarec.data.item_texts import read_item_texts
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.data.writer import read_about
from recbole_metarec.prepare import sources
from recbole_metarec.prepare.amazon import EDITIONS, categories, published
from recbole_metarec.prepare.prepare import Request

pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def prepared(capsys, *argv) -> str:
    assert cli.main(["prepare", *map(str, argv)]) == 0
    return capsys.readouterr().out


def histories(folder, name) -> dict:
    """item and original time of each user's events, by rank, after the check that every run makes."""
    path = folder / name / f"{name}.inter"
    summary = read_domain(path, ReadSpec()).summary
    assert summary.time_ties == summary.moved_float32 == summary.duplicates == 0
    table = pl.read_csv(path, separator="\t", schema_overrides={"user_id:token": pl.String, "item_id:token": pl.String})
    found = {}
    for user, item, rank, time, *_ in table.rows():
        found.setdefault(user, []).append((item, time))
        assert rank == len(found[user]) - 1
    return found


def test_reviews_become_a_domain_with_texts(tmp_path, capsys, no_network):
    raw = write(tmp_path / "Toys_5.json.gz", reviews(review_2018))
    meta = write(tmp_path / "meta_Toys.json.gz", json_lines(META_2018))
    out = prepared(capsys, "Toys", "--raw", raw, "--metadata", meta, "--core", 1, "--data_path", tmp_path / "d")
    assert histories(tmp_path / "d", "Toys") == HISTORIES
    assert find_domain("Toys", tmp_path / "d") == tmp_path / "d"
    items = ["[PAD]", "B000GKXY4S", "0439886341", "B00KCXJY0I"]
    texts = read_item_texts(tmp_path / "d/Toys/Toys.item", items, ["text"], "item_id", "\t", "utf-8")
    assert texts == ["", *TEXTS["2018"].values(), ""]
    about = read_about(tmp_path / "d", "Toys")
    assert about["steps"] == {"read": [6, 2, 3], "repetitions left out": [5, 2, 3]}
    assert about["edition"] == "2018" and about["time_ties"] == 2 and about["raw_file"] == "Toys_5.json.gz"
    for line in ("1 rows repeat an earlier user, item and time", "2 neighbours in a history share one time",
                 "2 of 3 items have a text, from meta_Toys.json.gz", "(2018)"):  # fmt: skip
        assert line in out
    ratings = pl.read_csv(tmp_path / "d/Toys/Toys.inter", separator="\t")["rating:float"]
    assert ratings.to_list() == [4, 5, 5, 3, 1]  # of the repeated event the first


def grid(users=6, items=6):
    pairs = [(user, item) for user in range(users) for item in range(items)]
    return [(f"A{user:013d}", f"B{item:09d}", 1000 * user + item, 5.0) for user, item in pairs]


def test_named_domains_are_reduced_to_the_core_of_their_rule(tmp_path, capsys, no_network):
    lonely = [("A9999999999999", "B000000000", 5, 1.0), ("A0000000000001", "B999999999", 6, 1.0)]
    raw = write(tmp_path / "x.json", reviews(review_2018, lonely + grid()))
    out = prepared(capsys, "Scientific", "--raw", raw)
    assert {user: len(rows) for user, rows in histories(tmp_path / "dataset", "Scientific").items()} == {
        f"A{user:013d}": 6 for user in range(6)
    }
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert {"read 38 7 7", "repetitions left out 38 7 7", "5-core 36 6 6"} <= lines
    known = domain_settings("Scientific")["statistics"]
    assert f"published (2018) {known['interactions']:,d} {known['users']:,d} {known['items']:,d}" in lines
    assert "next: recbole-metarec train --dataset Scientific --data_path dataset --model LRURec\n" in out
    assert "as source: recbole-metarec train --dataset TARGET --sources Scientific --data_path dataset\n" in out
    out = prepared(capsys, "Scientific", "--raw", raw, "--overwrite", "--user_core", 1, "--item_core", 6)
    # whoever is left without an item is gone; whoever bought one that stays is not
    assert "users 1, items 6 or more" in out and len(histories(tmp_path / "dataset", "Scientific")) == 7


def test_a_finished_file_of_a_named_domain_is_not_filtered_again(tmp_path, capsys, no_network):
    raw = write(tmp_path / "Scientific.inter", ATOMIC)
    out = prepared(capsys, "Scientific", "--raw", raw)
    assert histories(tmp_path / "dataset", "Scientific") == HISTORIES
    assert "every user and item is kept, as a file in RecBole's form is taken to be filtered already; --core 5" in out
    assert cli.main(["prepare", "Scientific", "--raw", str(raw), "--overwrite", "--core", "5"]) == 2
    assert "nothing is left when every user has 5 events" in capsys.readouterr().err


def test_statistics_of_another_edition_are_not_shown(tmp_path, capsys, no_network):
    raw = write(tmp_path / "x.csv", "".join(f"{u},{i},{r},{t}\n" for u, i, t, r in grid()).encode())
    assert "published" not in prepared(capsys, "Scientific", "--raw", raw)


def test_an_own_log_keeps_everything(tmp_path, capsys):
    pl.DataFrame(
        {"who": ["b", "a", "b"], "what": ["x", "x", "y"], "when": ["2024-05-02", "2024-05-01", "2024-05-01"]}
    ).write_csv("clicks.csv")
    items = {"what": ["x", "y"], "name": ["Ex", None], "kind": ["letter", "letter"]}
    pl.DataFrame(items).write_parquet("items.parquet")
    columns = ["--user", "who", "--item", "what", "--time", "when"]
    texts = ["--items", "items.parquet", "--text", "name,kind"]
    out = prepared(capsys, "MyShop", "--raw", "clicks.csv", *columns, *texts)
    day = 86400
    start = 19844 * day  # 1 May 2024
    assert histories(tmp_path / "dataset", "MyShop") == {
        "b": [("y", start), ("x", start + day)],
        "a": [("x", start)],
    }
    assert "every user and item is kept" in out
    assert (tmp_path / "dataset/MyShop/MyShop.item").read_text() == (
        "item_id:token\ttext:token_seq\nx\tEx letter\ny\tletter\n"
    )


def test_recbole_s_zipped_copy_with_its_texts(tmp_path, capsys):
    with zipfile.ZipFile("Amazon_Toys.zip", "w") as archive:
        archive.writestr("Amazon_Toys/Amazon_Toys.inter", ATOMIC)
        archive.writestr("Amazon_Toys/Amazon_Toys.item", ATOMIC_ITEMS)
    out = prepared(capsys, "Copy", "--raw", "Amazon_Toys.zip")
    assert histories(tmp_path / "dataset", "Copy") == HISTORIES and "2 of 3 items have a text" in out
    prepared(capsys, "Bare", "--raw", "Amazon_Toys.zip", "--without_text")
    assert not (tmp_path / "dataset/Bare/Bare.item").exists()


def test_a_file_that_was_written_here_keeps_its_times(tmp_path, capsys, no_network):
    prepared(capsys, "One", "--raw", write(tmp_path / "x.json", reviews(review_2018)), "--core", 1)
    prepared(capsys, "Two", "--raw", "dataset/One/One.inter")
    assert histories(tmp_path / "dataset", "Two") == HISTORIES
    first, second = (tmp_path / f"dataset/{name}/{name}.inter" for name in ("One", "Two"))
    assert first.read_bytes() == second.read_bytes()


def test_the_same_events_as_with_pandas(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import prepare as benchmark

    raw = tmp_path / "x.json.gz"
    benchmark.write_reviews(raw, 4000)
    sides = [benchmark.fingerprint(side(raw, tmp_path)) for side in (benchmark.ours, benchmark.with_pandas)]
    assert sides[0] == sides[1]


def test_yelp_from_its_file(tmp_path, capsys):
    raw = write(tmp_path / "review.json", reviews(review_yelp))
    prepared(capsys, "Yelp", "--raw", raw, "--core", 1)
    assert histories(tmp_path / "dataset", "Yelp") == HISTORIES


def put_into_cache(tmp_path, *names):
    folder = tmp_path / "cache" / "raw" / "2018"
    folder.mkdir(parents=True)
    for name in names:
        data = json_lines(META_2018) if name.startswith("meta") else reviews(review_2018)
        write(folder / name, data)


def test_files_in_the_cache_need_no_network(tmp_path, capsys, no_network):
    put_into_cache(tmp_path, "Industrial_and_Scientific_5.json.gz", "meta_Industrial_and_Scientific.json.gz")
    prepared(capsys, "Scientific", "--core", 1)
    assert histories(tmp_path / "dataset", "Scientific") == HISTORIES
    assert (tmp_path / "dataset/Scientific/Scientific.item").is_file()
    put = tmp_path / "cache/raw/2018/Magazine_Subscriptions_5.json.gz"
    write(put, reviews(review_2018))
    prepared(capsys, "Magazines", "--category", "Magazine_Subscriptions", "--without-text", "--core=1")
    assert read_about(tmp_path / "dataset", "Magazines")["raw_address"].endswith(put.name)


def test_domains_prepared_together_are_a_target_and_its_sources(tmp_path, capsys, no_network):
    put_into_cache(tmp_path, "Industrial_and_Scientific_5.json.gz", "Arts_Crafts_and_Sewing_5.json.gz")
    out = prepared(capsys, "Scientific", "Arts", "--core", 1, "--without_text", "--data_path", tmp_path / "my data")
    place = f"--data_path '{tmp_path / 'my data'}'\n"
    assert f"next: recbole-metarec train --dataset Scientific --sources Arts {place}" in out
    assert f"as source: recbole-metarec train --dataset TARGET --sources Scientific,Arts {place}" in out


def test_a_file_in_the_cache_must_have_the_sum_of_its_domain(tmp_path, capsys, monkeypatch, no_network):
    put_into_cache(tmp_path, "Industrial_and_Scientific_5.json.gz", "meta_Industrial_and_Scientific.json.gz")
    edition, addresses = sources._public_addresses(Request("Scientific", tmp_path))
    addresses = {**addresses, "metadata_sha256": "0" * 64}
    monkeypatch.setattr(sources, "_public_addresses", lambda _: (edition, addresses))
    assert cli.main(["prepare", "Scientific"]) == 2
    place = tmp_path / "cache/raw/2018/meta_Industrial_and_Scientific.json.gz"
    error = capsys.readouterr().err
    assert f"not {'0' * 64}; delete {place} and repeat the command" in error and error.count("\n") == 1
    assert not (tmp_path / "dataset").exists()


def test_without_network_the_addresses_and_places_are_named(tmp_path, capsys, monkeypatch):
    import socket
    import urllib.error

    def unreachable(*_, **__):
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    assert cli.main(["prepare", "Scientific"]) == 2
    error = capsys.readouterr().err
    files = domain_settings("Scientific")["public_source"]["editions"][2018]
    for part in ("reviews", "metadata"):
        name = files[part].rpartition("/")[2]
        assert f"{files[part]} to {tmp_path / 'cache' / 'raw' / '2018' / name}" in error
    assert error.count("\n") == 1 and "--raw FILE" in error and not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("edition", EDITIONS)
def test_addresses_by_category_are_those_of_the_named_domains(edition):
    found = 0
    for name in known_domains():
        files = domain_settings(name)["public_source"]["editions"].get(int(edition))
        if files:
            assert published(edition, files["category"]) == files
            found += 1
    assert found > 5 and len(set(categories(edition))) == len(categories(edition))


LOG = ["--raw", "log.csv", "--user", "u", "--item", "i", "--time", "t"]
REFUSED = [
    ([], "Missing argument 'NAME...'; see recbole-metarec prepare --help"),
    (["A", "A", "--core", "5"], "A is named twice"),
    (["A", "B", "--raw", "log.csv"], "--raw: belongs to one domain, but 2 are named"),
    (["A", "--learning_rate=0.1"], "--learning_rate: not an option of recbole-metarec prepare; "),
    (["A", "--core", "0"], "--core: 0 "),
    (["a/b", *LOG], "'a/b' is not the name of a domain"),
    (["ml-100k", *LOG], "ml-100k: RecBole reads this name from its own package"),
    (["ml-drama"], "ml-drama: comes with RecBole's package"),
    (["Yelp"], "Yelp: https://www.yelp.com/dataset gives its files only to those who agree"),
    (["Sientific"], "Sientific is not a known domain; did you mean Scientific?"),
    (["Scientific", "--edition", "2014"], "--edition: Scientific has no edition 2014; it has 2018, 2023"),
    (
        ["X", "--category", "Book", "--edition", "2018"],
        "--category: the 2018 edition has no Book; did you mean Books?",
    ),
    (["X", "--category", "Books", "--edition", "2019"], "--edition: 2019 is none of 2014, 2018, 2023"),
    (["X", "--raw", "absent.csv"], "--raw: there is no file absent.csv"),
    (["X", "--raw", "log.csv"], "log.csv:1: is no file of Amazon reviews"),
    (["X", *LOG[:4]], "--item: not given; a log of your own needs --user, --item and --time"),
    (["X", *LOG[2:]], "--raw: not given"),
    (["X", *LOG[:-1], "u"], "--user: u is given for two things"),
    (["X", *LOG, "--items", "log.csv"], "--text: not given; --items FILE and --text COLUMNS belong together"),
    (["X", *LOG, "--items", "log.csv", "--text", "w"], "log.csv:1: no column w; the header has u, i, t"),
    (["X", *LOG, "--sha256", "00"], "log.csv: its SHA-256 is "),
    (["X", *LOG, "--core", "3"], "log.csv: nothing is left when every user has 3 events and every item 3"),
    (["X", *LOG[:-1], "i"], "--item: i is given for two things"),
    (["X", "--raw", "bad.csv", *LOG[2:]], "bad.csv:3: t is missing; fix the line"),
    (["X", "--raw", "bad.csv", *LOG[2:], "--skip_bad_lines", "--core", "2"], "bad.csv: nothing is left"),
]


@pytest.mark.parametrize("argv, message", REFUSED, ids=[" ".join(argv) or "nothing" for argv, _ in REFUSED])
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, capsys, no_network, argv, message):
    (tmp_path / "log.csv").write_text("u,i,t\na,x,1\na,y,2\n")
    (tmp_path / "bad.csv").write_text("u,i,t\na,x,1\na,y,\n")
    assert cli.main(["prepare", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "log.csv"]


def test_what_is_there_stays_unless_told(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("u,i,t\na,x,1\n")
    prepared(capsys, "X", *LOG)
    before = (tmp_path / "dataset/X/X.inter").read_bytes()
    (tmp_path / "log.csv").write_text("u,i,t\nb,x,1\n")
    assert cli.main(["prepare", "X", *LOG]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "dataset/X/X.inter").read_bytes() == before
    prepared(capsys, "X", *LOG, "--overwrite")
    assert (tmp_path / "dataset/X/X.inter").read_bytes() != before


def test_skipped_lines_are_counted(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("u,i,t\na,x,1\na,y,\nb\n")
    assert "2 bad lines are left out" in prepared(capsys, "X", *LOG, "--skip_bad_lines")
    assert json.loads((tmp_path / "dataset/X/X.json").read_text())["skipped_lines"] == 2


def test_an_interrupted_review_file_leaves_nothing(tmp_path, capsys):
    raw = write(tmp_path / "x.json.gz", reviews(review_2018, EVENTS * 100))
    raw.write_bytes(raw.read_bytes()[:-20])
    assert cli.main(["prepare", "X", "--raw", str(raw)]) == 2
    assert "x.json.gz:" in capsys.readouterr().err and not (tmp_path / "dataset").exists()
