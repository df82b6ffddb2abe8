"""A domain that is split on disk: texts, types, times and origins of the parts, and every mistake in one line."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.worlds import write_domain, write_items

from recbole_metarec.cli import main as cli
from recbole_metarec.data.domains import resolve_sources
from recbole_metarec.data.text_file import read_columns, read_header
from recbole_metarec.prepare.split_domains import read_frames


@pytest.fixture
def shop(tmp_path):
    """A domain with times in seconds, a rating, and items with a brand, a price and words."""
    random = np.random.default_rng(0)
    histories = [random.integers(12, size=6).tolist() for _ in range(20)]
    write_domain(tmp_path / "data", "Shop", histories, [[1.7e9 + 10 * n for n in range(6)]] * 20)
    write_items(tmp_path / "data", "Shop", {n: f"word{n} and\tBrand {n % 3}\t{n}.50" for n in range(12)})
    file = tmp_path / "data" / "Shop" / "Shop.item"
    file.write_text(file.read_text().replace("text:token_seq", "text:token_seq\tbrand:token\tprice:float"))
    return tmp_path / "data"


def table(folder, name, kind="inter"):
    """Column -> texts."""
    return read_columns(folder / name / f"{name}.{kind}").frame.to_dict(as_series=False)


def test_parts_on_disk_carry_texts_types_times_and_where_they_come_from(shop, capsys):
    words = ["split", "Shop", "--data_path", str(shop)]
    assert cli.main([*words, "--overlap-items", "0.5", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    whole = dict(zip(table(shop, "Shop", "item")["item_id"], table(shop, "Shop", "item")["text"]))
    for name in ("Shop-a", "Shop-b"):
        events, items = table(shop, name), table(shop, name, "item")
        assert list(events) == ["user_id", "item_id", "timestamp", "original_timestamp"]
        assert read_header(shop / name / f"{name}.item").types == {
            "item_id": "token", "text": "token_seq", "brand": "token", "price": "float"}  # fmt: skip
        assert set(items["item_id"]) == set(events["item_id"])
        for item, text, brand, price in zip(*items.values()):
            number = int(item.removeprefix("Shop-"))
            assert (text, brand, float(price)) == (whole[item], f"Brand {number % 3}", number + 0.5)
        assert all(float(time) >= 1.7e9 for time in events["original_timestamp"])
        about = json.loads((shop / name / f"{name}.json").read_text())
        assert about["split_of"] == "Shop" and about["events"] == len(events["item_id"])
        assert about["how"] == {
            "users": 0.5, "items": 0.5, "overlap_users": 0.0, "overlap_items": 0.5, "core": 0, "seed": 3}  # fmt: skip
    assert resolve_sources("Shop-a", "auto", shop) == (["Shop-b"], [])
    in_a, in_b = (set(table(shop, name)["item_id"]) for name in ("Shop-a", "Shop-b"))
    share = f"{len(in_a & in_b)} items ({len(in_a & in_b) / len(in_a):.1%} of those of Shop-a)"
    assert in_a & in_b and f"Shop-a and Shop-b share {share}" in out and "no two domains share users" in out
    # a part of a part keeps the times that the first file had
    assert cli.main(["split", "Shop-b", "--data_path", str(shop)]) == 0
    assert all(float(time) >= 1.7e9 for time in table(shop, "Shop-b-a")["original_timestamp"])


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_source_in_fewer_words_has_the_same_items_with_some_words_of_each_in_their_order(share, shop):
    file = shop / "Shop" / "Shop.item"
    long = " ".join(f"w{n}" for n in range(200))
    file.write_text(file.read_text().replace(" and", f" {long}"))
    words = ["split", "Shop", "--data_path", str(shop), "--items", "1", "--overlap-items", "1", "--overwrite"]
    assert cli.main(words) == 0
    plain = {name: table(shop, name, "item") for name in ("Shop-a", "Shop-b")}
    assert cli.main([*words, "--source-words", str(share)]) == 0
    target, source = table(shop, "Shop-a", "item"), table(shop, "Shop-b", "item")
    assert target["text"] == plain["Shop-a"]["text"]
    for column in ("item_id", "brand", "price"):
        assert source[column] == plain["Shop-b"][column]
    before, after = ([text.split() for text in own["text"]] for own in (plain["Shop-b"], source))
    for whole, kept in zip(before, after, strict=True):
        left = iter(whole)
        assert all(word in left for word in kept), "a subsequence"
    assert np.isclose(sum(map(len, after)) / sum(map(len, before)), share, atol=0.03)
    assert len({tuple(kept) for kept in after}) == len(after), "each text is drawn on its own"
    about = json.loads((shop / "Shop-b" / "Shop-b.json").read_text())
    assert about["how"]["source_words"] == share


def test_the_words_that_a_source_keeps_are_drawn_by_the_seed_for_each_text_column(shop):
    file = shop / "Shop" / "Shop.item"
    head, *rows = file.read_text().replace(" and", " a b c d e f g h").splitlines()
    rows = [f"{row}\ts t u v w x y z" for row in rows]
    file.write_text("\n".join([f"{head}\tmore:token_seq", *rows]) + "\n")
    dataset = read_frames("Shop", shop)
    first, again, other = (dataset.items_with(0.5, seed) for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
    for column in ("text", "more"):
        assert first[column].str.len_chars().sum() < 0.8 * dataset.items[column].str.len_chars().sum()
    assert first.drop("text", "more").equals(dataset.items.drop("text", "more"))
    assert dataset.items_with(1.0, 1) is dataset.items


def test_where_the_parts_lie_is_told_and_the_command_that_is_told_finds_them(shop, tmp_path, capsys):
    for words in ([], ["--by", "brand", "--keep-users", "--output", str(tmp_path / "my parts")]):
        assert cli.main(["split", "Shop", "--data_path", str(shop), *words]) == 0
        *_, written, after = capsys.readouterr().out.splitlines()
        folders = [Path(text) for text in written.removeprefix("written: ").split(", ")]
        assert len(folders) > 1 and all((folder / f"{folder.name}.inter").is_file() for folder in folders)
        *start, dataset, _, data_path = shlex.split(after.removeprefix("next: "))
        assert start == ["recbole-metarec", "train", "--dataset"]
        present, missing = resolve_sources(dataset, "auto", data_path)
        assert [dataset, *present] == [folder.name for folder in folders] and missing == []


def test_by_a_column_of_the_items_and_of_several_words_the_first(shop, tmp_path, capsys):
    words = ["split", "Shop", "--data_path", str(shop), "--keep-users", "--output", str(tmp_path / "parts")]
    assert cli.main([*words, "--by", "brand"]) == 0
    found = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert found == ["Shop-Brand_0", "Shop-Brand_1", "Shop-Brand_2"]
    for place, name in enumerate(found):
        for item in table(tmp_path / "parts", name)["item_id"]:
            assert int(item.removeprefix("Shop-")) % 3 == place
    capsys.readouterr()
    dataset = read_frames("Shop", shop)
    words = dataset.with_column("text")
    assert words["text"].to_list() == [f"word{item.removeprefix('Shop-')}" for item in words["item_id"]]


@pytest.mark.parametrize("column", ["timestamp", "original_timestamp"])
def test_times_keep_their_order_beyond_what_float64_tells_apart(tmp_path, column):
    """Nanoseconds, and one fraction among them."""
    late = list(range(2**60, 2**60 + 40))
    times = [*map(str, late), f"{2**60 + 40}.5"]
    random = np.random.default_rng(0)
    rows = [f"u\ti{place}\t{times[place]}" for place in random.permutation(41)]
    if column == "original_timestamp":
        # no order of its own: the ranks say the opposite, so that the original times cannot be taken
        rows = [f"u\ti{place}\t{40 - place}\t{times[place]}" for place in random.permutation(41)]
    header = "user_id:token\titem_id:token\ttimestamp:float" + "\toriginal_timestamp:float" * (column != "timestamp")
    (tmp_path / "Fine").mkdir()
    (tmp_path / "Fine" / "Fine.inter").write_text("\n".join([header, *rows]) + "\n")
    events = read_frames("Fine", tmp_path).events
    expected = [f"i{place}" for place in range(41)]
    if column == "timestamp":
        assert events["item_id"].to_list() == expected
    else:
        assert events["item_id"].to_list() == expected[::-1] and events["time"].to_list() == list(range(41))


def test_a_column_of_the_name_that_times_need_is_refused(shop, capsys):
    file = shop / "Shop" / "Shop.inter"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{header}\ttime:float", *(f"{row}\t7" for row in rows)]) + "\n")
    assert cli.main(["split", "Shop", "--data_path", str(shop)]) == 2
    assert "Shop.inter:1: a column is named time, which is kept for " in capsys.readouterr().err
    assert [path.name for path in shop.iterdir()] == ["Shop"]


def test_what_a_source_that_shares_both_does_not_get_is_told(shop, capsys):
    words = ["split", "Shop", "--data_path", str(shop), "--overlap-users", "1", "--overlap-items", "1"]
    assert cli.main(words) == 0
    pairs = [set(zip(*map(table(shop, name).get, ("user_id", "item_id")))) for name in ("Shop-a", "Shop-b")]
    assert not pairs[0] & pairs[1]
    events = len(table(shop, "Shop-a")["item_id"])  # all users and items of the target are in the source, too
    assert f"{events} events have a user and an item of both; they are left out of Shop-b" in capsys.readouterr().out


def test_a_part_of_a_simulated_domain_stays_labelled(tmp_path, capsys):
    small = ["--target-users", "60", "--sources", "0", "--clusters", "4", "--output", str(tmp_path)]
    assert cli.main(["simulate", *small]) == 0
    assert cli.main(["split", "sim-target", "--data_path", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "sim-target-a" / "sim-target-a.json").read_text())["simulated"] is True
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Missing argument 'NAME'; see recbole-metarec split --help"),
        (["Shop", "--users", "1.5"], "--users: 1.5 "),
        (["Shop", "--overlap-items", "x"], "--overlap-items: 'x' "),
        (["Shop", "--users", "0"], "--users: 0 leaves the target without users; "),
        (["Shop", "--items", "1"], "--items: 1 leaves the source without items; "),
        (
            ["Shop", "--items", "1", "--overlap-items", "1", "--overlap-users", "0.5"],
            "--items: 1 gives the target all ",
        ),
        (["Shop", "--by", "brand", "--users", "0.5"], "--users: --by splits by the values of a column; "),
        (["Shop", "--keep-users"], "--keep-users: it goes with --by; "),
        (["Shop", "--by", "brand", "--source-words", "0.5"], "--source-words: --by splits by the values of a column; "),
        (["Shop", "--source-words", "0"], "--source-words: 0 leaves the source without texts; "),
        (["Shop", "--source-words", "2"], "--source-words: 2.0 "),
        (["Shop", "--core", "0"], "--core: 0 "),
        (["Shop", "--seed", "-1"], "--seed: -1 "),
        (["Shop", "--user", "0.5"], "--user: not an option of recbole-metarec split; did you mean --users?"),
        (["Shop"], "domain Shop is not known"),
    ],
)
def test_every_mistake_is_one_line_and_leaves_nothing(argv, message, refused, empty_cache):
    refused(["split", *argv], message)


def test_mistakes_in_the_data_leave_it_as_it_was(shop, capsys):
    def refusal(*words):
        assert cli.main(["split", "Shop", "--data_path", str(shop), *words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        assert [path.name for path in shop.iterdir()] == ["Shop"]
        return err

    assert "--by: Shop has no column brant; did you mean brand?" in refusal("--by", "brant")
    assert "no event is left in " in refusal("--core", "50")
    file = shop / "Shop" / "Shop.item"
    file.write_text(file.read_text().replace("Brand 1", "Brand.2").replace("Brand 2", "brand.2"))
    assert "the values " in refusal("--by", "brand", "--keep-users")
    file.write_text(file.read_text() + "short\n")
    assert "Shop.item:14: 1 field where the header has 4; " in refusal()
    file.unlink()
    assert "did you mean" in refusal("--by", "item_di")
    assert "--source-words: Shop has no item texts; " in refusal("--source-words", "0.5")
    (shop / "Shop" / "Shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ti\tsoon\n")
    assert "Shop.inter:2: timestamp 'soon' is not a finite number; " in refusal()
