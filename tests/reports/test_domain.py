"""Statistics against slow counts, closed forms, and what a report must and must not say."""

import builtins
import random
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread
from support.worlds import write_domain, write_items

from recbole_metarec.cli import main as cli
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.data.statistics import Shared, gini, histogram, inspect_domain, share_names
from recbole_metarec.reports.domain import text_report, warnings


def write_events(folder, name, rows, header="user_id:token\titem_id:token\ttimestamp:float"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    text = "\n".join(["\t".join(map(str, row)) for row in rows])
    (folder / name / f"{name}.inter").write_text(f"{header}\n{text}\n")


def some_events(seed: int, count: int = 300):
    rng = random.Random(seed)
    return [
        (f"u{int(rng.expovariate(0.08))}", f"i{int(rng.expovariate(0.2))}", rng.randrange(50)) for _ in range(count)
    ]


def test_every_number_equals_a_slow_count(tmp_path):
    for seed in range(5):
        rows = some_events(seed)
        write_events(tmp_path, "Shop", rows)
        found, _ = inspect_domain("Shop", tmp_path, ReadSpec())
        histories, counts = defaultdict(list), Counter(item for _, item, _ in rows)
        for user, item, _ in sorted(rows, key=lambda row: row[2]):
            histories[user].append(item)
        lengths = [len(items) for items in histories.values()]
        assert (found.users, found.items, found.events) == (len(histories), len(counts), len(rows))
        assert sorted(found.lengths.tolist()) == sorted(lengths)
        assert sorted(found.counts.tolist()) == sorted(counts.values())
        assert found.density == pytest.approx(len(rows) / len(histories) / len(counts))
        held = {n: min(2, max(0, n - 2)) for n in lengths}
        assert found.rows == {
            "train": sum(max(0, n - held[n] - 1) for n in lengths),
            "valid": sum(n >= 4 for n in lengths),
            "test": sum(n >= 3 for n in lengths),
        }
        repeats = sum(a == b for items in histories.values() for a, b in pairwise(items))
        assert found.consecutive == repeats > 0
        top = max(1, round(0.1 * len(counts)))
        assert found.top_share(0.1) == pytest.approx(sum(n for _, n in counts.most_common(top)) / len(rows))


def test_gini_against_its_definition_and_its_ends():
    counts = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    pairs = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean())
    assert gini(counts) == pytest.approx(pairs)
    assert gini(counts * 7) == pytest.approx(pairs)
    assert gini(np.full(10, 3)) == pytest.approx(0)
    assert gini(np.array([0] * 9 + [5])) == pytest.approx(1 - 1 / 10)


def test_a_histogram_holds_every_value_once_in_its_range():
    values = np.random.default_rng(0).geometric(0.05, 500)
    bins = histogram(values)
    assert [low for low, _, _ in bins[1:]] == [high + 1 for _, high, _ in bins[:-1]]
    assert bins[0][0] == 1 and bins[-1][0] <= values.max() <= bins[-1][1]
    assert [count for *_, count in bins] == [((values >= low) & (values <= high)).sum() for low, high, _ in bins]
    assert histogram(np.array([1])) == [(1, 1, 1)]


def test_what_is_shared_is_counted_by_name(tmp_path):
    write_events(tmp_path, "A", [("u", "i", 1), ("u", "j", 2), ("v", "i", 3), ("w", "k", 1)])
    write_events(tmp_path, "B", [("v", "k", 1), ("x", "i", 2), ("u", "l", 3)])
    write_events(tmp_path, "C", [("1", "2", 1), ("7", "3", 1)])
    one, other, numbers = (read_domain(tmp_path / name / f"{name}.inter", ReadSpec()) for name in "ABC")
    shared = share_names(one, "B", other)
    assert (shared.users, shared.items) == (2, 2)
    assert share_names(one, "C", numbers) == Shared("C", 0, 0)


def test_equal_numbers_are_no_overlap_unless_they_come_from_one_numbering(tmp_path):
    write_events(tmp_path, "A", [("1", "i", 1), ("2", "j", 2)])
    write_events(tmp_path, "B", [("2", "j", 1), ("3", "k", 2)])
    write_events(tmp_path, "C", [("u2", "j", 1), ("3", "k", 2)])
    write_events(tmp_path, "D", [("4", "k", 1), ("5", "k", 2)])
    one, other, mixed, apart = (read_domain(tmp_path / name / f"{name}.inter", ReadSpec()) for name in "ABCD")
    assert share_names(one, "B", other) == Shared("B", None, 1)
    assert share_names(one, "B", other, same_numbers=True) == Shared("B", 1, 1)
    assert share_names(other, "C", mixed) == Shared("C", 1, 2)  # a name that is no number: not all are renumbered
    assert share_names(one, "D", apart) == Shared("D", 0, 0)  # nothing equal is no chance


def test_each_oddity_is_said_and_a_plain_domain_has_none(tmp_path):
    write_domain(tmp_path, "Plain", [[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2]])
    found, _ = inspect_domain("Plain", tmp_path, ReadSpec())
    assert warnings(found) == []
    assert "nothing odd was found" in text_report(found, [], {}, {})
    start = 1_500_000_000
    rows = [("u", "a", start), ("u", "a", start), ("u", "b", start + 60), ("u", "c", start + 50), ("v", "b", start)]
    write_events(tmp_path, "Odd", rows)
    found, _ = inspect_domain("Odd", tmp_path, ReadSpec(exact_time=True))
    said = "\n".join(warnings(found))
    for part in (
        "1 rows repeat an earlier",
        "1 neighbours in a history share one time",
        "float32, which moves 2 of 5 events",
        "1 items (33.3 %) have a single event",
        "1 users (50.0 %) have fewer than 3 events",
        "1 events (20.0 %) repeat the item right before",
    ):
        assert part in said
    assert "2017-07-14 to 2017-07-14" in text_report(found, [], {}, {})
    assert "simulated" in warnings(found, about={"simulated": {"seed": 1}})[0]
    assert text_report(found, [], {}, {"simulated": True}).startswith("Odd (simulated)")


def test_ranks_in_place_of_times_do_not_hide_that_the_times_were_equal(tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float\toriginal_timestamp:float"
    rows = [("u", "a", 0, 900_000_000), ("u", "b", 1, 900_000_000), ("u", "c", 2, 900_000_005)]
    write_events(tmp_path, "Ranked", rows, header)
    found, _ = inspect_domain("Ranked", tmp_path, ReadSpec())
    assert found.summary.time_ties == 0 and found.original.time_ties == 1
    assert "1 neighbours in a history share one time" in "\n".join(warnings(found))
    assert found.span == (900_000_000, 900_000_005)


def test_original_times_that_not_all_events_have_are_not_looked_at(tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float\toriginal_timestamp:float"
    write_events(tmp_path, "Part", [("u", "a", 0, 900_000_000), ("u", "b", 1, "")], header)
    found, _ = inspect_domain("Part", tmp_path, ReadSpec())
    assert found.original is None and found.span is None


def test_a_file_is_read_once(tmp_path, monkeypatch):
    header = "user_id:token\titem_id:token\ttimestamp:float\toriginal_timestamp:float"
    write_events(tmp_path, "Ranked", [("u", "a", 0, 9e8), ("u", "b", 1, 9e8)], header)
    opened, own_open = [], builtins.open

    def counted(file, *args, **kwargs):
        opened.append(str(file))
        return own_open(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counted)
    inspect_domain("Ranked", tmp_path, ReadSpec())
    assert opened.count(str(tmp_path / "Ranked" / "Ranked.inter")) == 1


def test_texts_are_counted_for_the_items_of_the_catalogue_only(tmp_path):
    write_domain(tmp_path, "Shop", [[1, 2, 3]])
    write_items(tmp_path, "Shop", {1: "a hammer", 2: " ", 9: "not sold"})
    found, _ = inspect_domain("Shop", tmp_path, ReadSpec())
    assert found.texts == {"text": 1}
    assert "2 items have no text in column text" in "\n".join(warnings(found))


@pytest.fixture
def shops(tmp_path, empty_cache):
    write_domain(tmp_path / "data", "Odd", [[1, 2, 3, 4, 5]] * 6)
    write_domain(tmp_path / "data", "Even", [[1, 2, 3]] * 3)
    return tmp_path


def test_the_command_prints_the_report_and_leaves_one_picture(shops, capsys):
    assert cli.main(["inspect", "Odd", "--data_path", "data", "--all"]) == 0
    out = capsys.readouterr().out
    assert "users               6" in out and "Even" in out and "0 (0.0 %)" in out and "picture: Odd.png" in out
    assert sorted(path.name for path in shops.iterdir()) == ["Odd.png", "data"]
    assert float(imread(shops / "Odd.png").std()) > 0


def test_equal_numbers_of_the_command_count_only_between_parts_of_one_dataset(shops, capsys):
    for name in ("One", "Two"):
        write_events(shops / "data", name, [("1", "7", 1), ("2", "8", 2), ("3", f"{name}", 3)])
    words = ["inspect", "One", "Two", "--data_path", "data"]
    assert cli.main(words) == 0
    assert "Two numeric ids: overlap says nothing 2 (66.7 %)" in " ".join(capsys.readouterr().out.split())
    for name in ("One", "Two"):
        (shops / "data" / name / f"{name}.json").write_text('{"split_of": "Whole"}')
    assert cli.main(words) == 0
    assert "Two 3 (100.0 %) 2 (66.7 %)" in " ".join(capsys.readouterr().out.split())


def test_filters_of_the_command_are_recbole_s(shops, capsys):
    assert cli.main(["inspect", "Even", "--data_path", "data", "--item_inter_num_interval=[4,inf)"]) == 2
    assert "no event passes the filters" in capsys.readouterr().err
    assert (
        cli.main(["inspect", "Odd", "--data_path=data", "--picture", "a.png", "--val_interval={timestamp: '[1,3]'}"])
        == 0
    )
    out = capsys.readouterr().out
    assert "events              18" in out and "the filters leave 18 of the 30 events" in out
    assert (shops / "a.png").exists() and not (shops / "Odd.png").exists()


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "Missing argument 'NAME [OTHER...]'; see recbole-metarec inspect --help"),
        (["Oddd", "--data_path", "data"], "domain Oddd is not known (did you mean Odd?)"),
        (["Odd", "Eve", "--data_path", "data"], "domain Eve is not known"),
        (
            ["Odd", "--data_path", "data", "--learning_rate=1"],
            "--learning_rate: not an option of ",
        ),
        (["Odd", "--data_path", "data", "--user_inter_num_interval=5"], "a filter of inspect is not an interval"),
        (["Odd", "--data_path", "data", "--picture", "a.jpg"], "--picture: a.jpg is not the name of a PNG file"),
        (["Odd", "--data_path", "data", "--picture", "no/a.png"], "--picture: there is no folder no"),
        (["Odd", "--data_path", "data", "--TIME_FIELD=when"], "data/Odd/Odd.inter:1: no column when"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(argv, message, shops, capsys):
    assert cli.main(["inspect", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
    assert [path.name for path in shops.iterdir()] == ["data"]


def test_published_figures_stand_beside_those_of_the_real_domain(data_dir, capsys):
    assert cli.main(["inspect", "Scientific", "--data_path", str(data_dir)]) == 0
    out = capsys.readouterr().out
    assert "published (2018)" in out
    for figure in ("8,442", "4,385", "59,384"):
        assert out.count(figure) >= 2
