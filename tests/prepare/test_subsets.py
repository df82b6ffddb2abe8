"""A shop with a share of the users: nested, the same for everybody, and all of its own."""

import itertools
import json
import random

import pytest
from support.worlds import cluster_histories, write_domain, write_items

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.data.domains import find_domain
from recbole_metarec.errors import DataError
from recbole_metarec.prepare import subsets as cuts
from recbole_metarec.prepare.subsets import chosen_users, cut_overlap, cut_users, disjoint_subsamples, share_name

SHARES = (0.02, 0.1, 0.25, 0.5, 0.999, 1)


pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def shop(tmp_path):
    write_domain(tmp_path, "Shop", cluster_histories(1, 40, 30, 4, 0.5))
    write_items(tmp_path, "Shop", {item: f"thing {item}" for item in range(30)})
    return tmp_path


def events(folder, name) -> list[list[str]]:
    lines = (folder / name / f"{name}.inter").read_text().splitlines()[1:]
    return [line.split("\t")[:3] for line in lines]


def test_smaller_shops_are_part_of_larger_ones_whatever_the_order_of_the_users():
    users = [f"u{number}" for number in range(200)]
    chosen = [chosen_users(users, share) for share in SHARES]
    assert [len(own) for own in chosen] == [4, 20, 50, 100, 200, 200]
    assert all(small <= large for small, large in itertools.pairwise(chosen))
    random.shuffle(users)
    assert chosen == [chosen_users(users, share) for share in SHARES]
    assert len(chosen_users(users[:3], 0.01)) == 1
    # every user is as likely to be kept: of many domains of ten users, the place in the alphabet tells nothing
    kept = [
        int(user.split("-")[1]) for shop in range(400) for user in chosen_users([f"{shop}-{n}" for n in range(10)], 0.5)
    ]
    assert abs(sum(kept) / len(kept) - 4.5) < 0.35  # 5 standard errors


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 1 / 3, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("count", [1, 3, 49, 200])
def test_the_subsamples_of_a_share_have_no_user_in_common_and_leave_none_out_that_fits(share, count):
    users = [f"u{number}" for number in range(count)]
    found = [chosen_users(users, share, number) for number in range(disjoint_subsamples(share))]
    assert disjoint_subsamples(share) == {0.02: 50, 0.05: 20, 0.1: 10, 1 / 3: 3, 0.3: 3, 0.5: 2, 0.999: 1}[share]
    assert all(len(own) in {max(1, int(share * count)), int(share * count) + 1} for own in found)
    if share * count >= 1:
        together = [user for own in found for user in own]
        assert len(together) == len(set(together)) == round(len(found) * share * count)


def test_another_subsample_of_a_share_is_another_domain(shop, fresh_cache):
    names = [cut_users("Shop", str(shop), 0.25, number) for number in range(4)]
    assert names == ["Shop-users25", "Shop-users25-2", "Shop-users25-3", "Shop-users25-4"]
    users = [{user for user, _, _ in events(fresh_cache, name)} for name in names]
    assert set.union(*users) == {user for user, _, _ in events(shop, "Shop")} and sum(map(len, users)) == 40


def test_parts_are_not_offered_as_domains(shop):
    cut_users("Shop", str(shop), 0.5)
    with pytest.raises(DataError, match="domain nowhere is not known: .*; here are Shop; "):
        find_domain("nowhere", str(shop))


def test_a_cut_holds_all_events_of_its_users_in_order_and_nothing_else(shop, fresh_cache):
    name = cut_users("Shop", str(shop), 0.25)
    assert name == "Shop-users25" == share_name("Shop", 0.25)
    kept = chosen_users([user for user, _, _ in events(shop, "Shop")], 0.25)
    wanted = [row for row in events(shop, "Shop") if row[0] in kept]
    assert events(fresh_cache, name) == wanted and len(kept) == 10
    items = (fresh_cache / name / f"{name}.item").read_text().splitlines()
    assert items[0] == "item_id:token\ttext:token_seq"
    assert {line.split("\t")[0] for line in items[1:]} == {item for _, item, _ in wanted}
    assert all(line.split("\t")[1] == f"thing {line.split('-')[1].split()[0]}" for line in items[1:])
    about = json.loads((fresh_cache / name / f"{name}.json").read_text())
    assert about["cut_from"] == "Shop" and about["share_of_users"] == 0.25 and about["users"] == 10


def test_a_whole_share_is_the_domain_and_a_cut_is_made_once_and_anew_only_for_other_data(shop, fresh_cache):
    assert cut_users("Shop", str(shop), 1) == "Shop" and not fresh_cache.exists()
    name = cut_users("Shop", str(shop), 0.5)
    file = fresh_cache / name / f"{name}.inter"
    before = file.stat().st_ino, file.read_bytes()
    cut_users("Shop", str(shop), 0.5)
    assert (file.stat().st_ino, file.read_bytes()) == before
    write_domain(shop, "Shop", cluster_histories(2, 40, 30, 4, 0.5))
    cut_users("Shop", str(shop), 0.5)
    assert file.read_bytes() != before[1]
    kept = chosen_users([user for user, _, _ in events(shop, "Shop")], 0.5)
    assert events(fresh_cache, name) == [row for row in events(shop, "Shop") if row[0] in kept]


def test_a_process_that_was_faster_keeps_its_folder(shop, fresh_cache, monkeypatch):
    write, inodes = cuts.write_domain, []

    def overtaken(*args, **given):
        monkeypatch.setattr(cuts, "write_domain", write)
        cut_users("Shop", str(shop), 0.5)
        inodes.append((fresh_cache / "Shop-users50" / "Shop-users50.inter").stat().st_ino)
        return write(*args, **given)

    monkeypatch.setattr(cuts, "write_domain", overtaken)
    assert cut_users("Shop", str(shop), 0.5) == "Shop-users50"
    assert (fresh_cache / "Shop-users50" / "Shop-users50.inter").stat().st_ino == inodes[0]
    assert [path.name for path in fresh_cache.iterdir()] == ["Shop-users50"]


def test_a_domain_of_the_name_that_a_cut_needs_is_not_taken_for_it(shop):
    write_domain(shop, "Shop-users50", [[1, 2, 3, 4]])
    with pytest.raises(DataError, match="Shop-users50: is there already, and has the name that a part of Shop needs"):
        cut_users("Shop", str(shop), 0.5)


def test_columns_by_another_name_are_said(shop):
    file = shop / "Shop" / "Shop.inter"
    file.write_text(file.read_text().replace("timestamp", "when"))
    with pytest.raises(DataError, match="Shop.inter:1: no column timestamp"):
        cut_users("Shop", str(shop), 0.5)


def test_halves_share_what_they_are_told_to_and_no_event_and_the_target_is_always_the_same(tmp_path, fresh_cache):
    write_domain(tmp_path, "Shop", cluster_histories(1, 120, 30, 4, 0.2, length=(20, 30)))
    shares, targets = (0, 0.5, 1), set()
    for kind, column in (("users", 0), ("items", 1)):
        shared = []
        for share in shares:
            target, source = cut_overlap("Shop", str(tmp_path), kind, share)
            ours, theirs = events(fresh_cache, target), events(fresh_cache, source)
            targets.add(tuple(map(tuple, ours)))
            for other in {0, 1} - {column}:
                assert not {row[other] for row in ours} & {row[other] for row in theirs}
            own = {row[column] for row in ours}
            shared.append(len(own & {row[column] for row in theirs}) / len(own))
            users = [row[0] for row in ours]
            assert min(users.count(user) for user in set(users)) >= 3, "each has a test row"
        assert shared[0] == 0 and 0.3 < shared[1] < 0.7 and shared[2] > 0.9
    assert len(targets) == 1
