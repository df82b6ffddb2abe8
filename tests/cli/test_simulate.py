"""The simulate command and --simulate: what lies on disk, that it is labelled, and one line for every mistake."""

import json

import numpy as np
import pytest
from support.worlds import Run

from recbole_metarec.cli import main as cli
from recbole_metarec.config.dataset_files import domain_settings
from recbole_metarec.data import writer
from recbole_metarec.data.domains import resolve_sources
from recbole_metarec.data.reader import ReadSpec, read_domain
from recbole_metarec.data.text_file import read_columns
from recbole_metarec.errors import DataError
from recbole_metarec.prepare.simulated_domains import ensure_stand_ins, stand_in_plan

SMALL = ["--target-users", "60", "--items", "40", "--source-users", "80", "--clusters", "4", "--sources", "2"]


def simulate(folder, *more) -> int:
    return cli.main(["simulate", *SMALL, "--output", str(folder), *more])


def read(folder, name):
    columns = read_columns(folder / name / f"{name}.inter").frame.to_dict(as_series=False)
    return columns, json.loads((folder / name / f"{name}.truth.json").read_text())


def test_what_is_written_is_what_the_truth_says(tmp_path, capsys):
    folder = tmp_path / "made"
    assert simulate(folder, "--relatedness", "1,0", "--noise", "0", "--successors", "1") == 0
    out = capsys.readouterr().out
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["sim-source-1", "sim-source-2", "sim-target"]
    ids = {"user_id": [], "item_id": []}
    for name, users, relatedness in (("sim-target", 60, 1.0), ("sim-source-1", 80, 1.0), ("sim-source-2", 80, 0.0)):
        columns, truth = read(folder, name)
        about = json.loads((folder / name / f"{name}.json").read_text())
        assert about["simulated"] is truth["simulated"] is True
        assert about["relatedness"] == truth["relatedness"] == relatedness
        assert about["target"] == "sim-target"
        assert len(set(columns["user_id"])) == users and len(truth["items"]) == 40
        summary = read_domain(folder / name / f"{name}.inter", ReadSpec()).summary
        assert (summary.duplicates, summary.time_ties, summary.moved_float32) == (0, 0, 0)
        clusters = [truth["items"][item]["cluster"] for item in columns["item_id"]]
        transitions = np.array(truth["transitions"])
        for user, other, one, two in zip(columns["user_id"], columns["user_id"][1:], clusters, clusters[1:]):
            assert user != other or transitions[one, two] == 1.0  # without noise, the one successor
        for column, seen in ids.items():
            seen.append(set(columns[column]))
        assert f"{name} " in out
    for sets in ids.values():
        assert len(set.union(*sets)) == sum(map(len, sets))  # no id in two domains
    oracle = json.loads((folder / "sim-target" / "sim-target.truth.json").read_text())["oracle_ndcg@10"]
    assert f"{oracle:.4f} by the best possible ranking" in out


def test_a_relatedness_that_cannot_be_had_is_told_by_what_has_come_of_it(tmp_path, capsys):
    """One cluster of four alone has nothing to exchange its successors with."""
    assert simulate(tmp_path, "--relatedness", "0.75,0") == 0
    out = capsys.readouterr().out
    target = np.array(read(tmp_path, "sim-target")[1]["transitions"])
    for name, asked, found in (("sim-source-1", 0.75, 1.0), ("sim-source-2", 0.0, 0.0)):
        truth = read(tmp_path, name)[1]
        rows = (np.array(truth["transitions"]) == target).all(axis=1).mean()
        assert (truth["relatedness"], truth["unchanged"], rows) == (asked, found, found)
        line = next(line for line in out.splitlines() if line.startswith(name))
        assert line.split()[4:6] == [f"{asked:.2f}", f"{found:.2f}"]


def test_a_simulated_target_knows_its_sources_and_can_be_trained_on(tmp_path):
    assert simulate(tmp_path / "made") == 0
    assert resolve_sources("sim-target", "auto", tmp_path / "made") == (["sim-source-1", "sim-source-2"], [])
    assert resolve_sources("sim-source-1", "auto", tmp_path / "made") == ([], [])
    sizes = {"embedding_size": 8, "n_layers": 1, "vq_heads": 2, "epochs": 1}
    run = Run(tmp_path / "made", dataset="sim-target", **sizes).fit(saved=False)
    assert [row["source"] for row in run.trainer.log.source_history] == ["sim-source-1", "sim-source-2"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_seed_one_world_whatever_the_other_sources(tmp_path):
    for name, *more in (("a", "--seed", "1"), ("b", "--seed", "1"), ("c", "--seed", "2")):
        assert simulate(tmp_path / name, *more) == 0
    assert simulate(tmp_path / "d", "--seed", "1", "--sources", "2", "--relatedness", "1,0.5") == 0
    a, b, c, d = (contents(tmp_path / name) for name in "abcd")
    assert a == b and a.keys() == c.keys()
    assert all(a[path] != c[path] for path in a if path.suffix == ".inter")
    inter = {str(path) for path in a if path.suffix == ".inter" and a[path] != d[path]}
    assert inter == {"sim-source-2/sim-source-2.inter"}  # its relatedness was 0 and is 0.5


def test_sizes_like_named_domains(tmp_path, capsys):
    words = ["--like", "ml-comedy", "--sources-like", "ml-action", "--output", str(tmp_path)]
    assert cli.main(["simulate", *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sim-ml-action", "sim-ml-comedy"]
    for name in ("ml-comedy", "ml-action"):
        columns, truth = read(tmp_path, f"sim-{name}")
        wanted = domain_settings(name)["statistics"]
        assert len(set(columns["user_id"])) == wanted["users"]
        assert len(truth["items"]) == wanted["items"]
        excess = wanted["interactions"] / wanted["users"] - 5  # a geometric law above the minimum: deviation ~ mean
        assert abs(len(columns["user_id"]) - wanted["interactions"]) < 4 * (excess + 1) * wanted["users"] ** 0.5
    plan = stand_in_plan("Scientific")
    assert [source.name for source in plan.sources] == ["sim-Cell_Phones", "sim-Clothing", "sim-Home"]
    assert [source.relatedness for source in plan.sources] == [1.0, 0.5, 0.0]
    assert (plan.target.size.users, plan.target.size.items) == (8442, 4385)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--noise", "1.5"], "--noise: 1.5 is not in the range 0<=x<=1; see recbole-metarec simulate --help"),
        (["--noise", "nan"], "--noise: nan is not a finite number; "),
        (["--skew", "-1"], "--skew: -1.0 is not in the range x>=0; "),
        (["--skew", "inf"], "--skew: inf is not a finite number; "),
        (["--items", "0"], "--items: 0 "),
        (["--items", "2.5"], "--items: '2.5' "),
        (["--items", "10"], "sim-target: 10 items cannot fill 20 clusters; "),
        (["--source-items", "10"], "sim-source-1: 10 items cannot fill 20 clusters; "),
        (["--successors", "11"], "20 clusters are too few to have 11 successors each; give at least 22 clusters"),
        (["--length", "4"], "sim-target: histories of 4 events in the mean cannot all have 5; "),
        (["--sources", "-1"], "--sources: -1 "),
        (["--relatedness", "1,0"], "--relatedness: 2 values for 4 sources; give one for each source"),
        (["--relatedness", "1,0,0,2"], "--relatedness: 2.0 is not in the range 0<=x<=1"),
        (["--sources", "1", "--relatedness", "near"], "--relatedness: 'near' is not a valid number"),
        (["--like", "Sciencific"], "the size of Sciencific is not known; did you mean Scientific?"),
        (["--like", "Arts"], "the size of Arts is not known; it is of Beauty, "),
        (["--like", "Office", "--items", "9"], "--items: --like decides this; leave one of them out"),
        (["--sources-like", "Office", "--sources", "2"], "--sources: --sources-like decides this; "),
        (["--sources-like", "Office,Office"], "--sources-like: source Office is given twice; "),
        (["--like", "Office", "--sources-like", "Office"], "--sources-like: the target Office is among its sources; "),
        (["--sources-like", "auto"], "--sources-like: auto is what --like means without it; "),
        (["--seed", "x"], "--seed: 'x' "),
        (["--seeds", "1"], "--seeds: not an option of recbole-metarec simulate; did you mean --seed?"),
        (["--epochs=1"], "--epochs: not an option of recbole-metarec simulate; "),
        (["again"], "Got unexpected extra argument (again); see recbole-metarec simulate --help"),
    ],
)
def test_every_mistake_is_one_line_and_leaves_nothing(argv, message, refused):
    refused(["simulate", *argv], message)


def test_what_is_there_is_replaced_only_when_told(tmp_path, capsys):
    assert simulate(tmp_path) == 0
    before = contents(tmp_path)
    assert simulate(tmp_path, "--seed", "5") == 2
    assert "sim-target: is there already; " in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert simulate(tmp_path, "--seed", "5", "--overwrite") == 0
    assert contents(tmp_path).keys() == before.keys() and contents(tmp_path) != before


def test_what_was_there_comes_back_when_one_of_several_cannot_be_placed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.inter").touch()
    with (
        pytest.raises(DataError, match="cannot be written"),
        writer.written_together(tmp_path, ["a", "b"], overwrite=True) as place,
    ):
        (place / "a").mkdir()  # and no b
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["a", "a/a.inter", "b", "b/b.inter"]


def test_a_full_disk_leaves_none_of_the_domains(tmp_path, monkeypatch, capsys):
    from recbole_metarec.prepare import simulated_domains

    calls, write = [], simulated_domains.write_atomically

    def full(path, *rest):
        calls.append(path)
        if len(calls) == 3:
            raise DataError(f"{path}: cannot be written (No space left on device)")
        return write(path, *rest)

    monkeypatch.setattr(simulated_domains, "write_atomically", full)
    assert simulate(tmp_path) == 2
    assert len(calls) == 3 and list(tmp_path.iterdir()) == []
    capsys.readouterr()
    with pytest.raises(DataError, match="cannot be written"), writer.written_together(tmp_path, ["a"]):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("empty_cache")
class TestStandIns:
    """--simulate of the commands that run models."""

    @pytest.fixture
    def calls(self, monkeypatch):
        from recbole_metarec import quick_start

        seen = []

        class Result:
            def table(self):
                return "the table"

        monkeypatch.setattr(quick_start, "run_from_config", lambda config, _: seen.append(config) or Result())
        return seen

    def test_train_runs_on_them_under_their_own_names(self, calls, capsys):
        words = ["train", "--simulate", "--dataset", "Office", "--sources", "ml-action,ml-drama", "--seed", "3"]
        assert cli.main(words) == 0
        assert cli.main(words) == 0
        first, again = calls
        assert first == again
        assert first.dataset == "sim-Office"
        assert first["sources"] == ["sim-ml-action", "sim-ml-drama"]
        assert first["seed"] == 3  # of the run; the data stays the same
        out = capsys.readouterr().out
        assert "simulated: sim-Office; sources, and how related they are: sim-ml-action (1), sim-ml-drama (0)" in out

    def test_sources_auto_are_the_named_ones_and_none_is_none(self, calls, capsys):
        assert cli.main(["train", "--simulate"]) == 0  # the embedded target
        assert cli.main(["train", "--simulate", "--sources", "none"]) == 0
        auto, none = calls
        assert auto.dataset == "sim-ml-drama" and auto["sources"] == "auto"
        related = ["sim-ml-action", "sim-ml-comedy", "sim-ml-thriller"]
        assert resolve_sources("sim-ml-drama", "auto", auto["data_path"]) == (related, [])
        assert none["sources"] == []
        capsys.readouterr()

    def test_they_are_made_once_and_mended_when_a_file_is_gone(self):
        plan = stand_in_plan("ml-drama", ["ml-action"])
        folder = ensure_stand_ins(plan)
        file = folder / "sim-ml-action" / "sim-ml-action.inter"
        made = file.stat().st_mtime_ns, file.read_bytes()
        assert ensure_stand_ins(plan) == folder and (file.stat().st_mtime_ns, file.read_bytes()) == made
        file.unlink()
        assert ensure_stand_ins(plan) == folder and file.read_bytes() == made[1]
        assert ensure_stand_ins(stand_in_plan("ml-drama", [])) != folder
        assert [path.name for path in folder.parent.iterdir()].count(folder.name) == 1
        assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]

    def test_a_process_that_was_faster_keeps_its_folder(self, monkeypatch):
        from recbole_metarec.prepare import simulated_domains

        plan, write, made = stand_in_plan("ml-drama", ["ml-action"]), simulated_domains.write_simulated, []

        def overtaken(*given):
            monkeypatch.setattr(simulated_domains, "write_simulated", write)
            made.append(ensure_stand_ins(plan).stat().st_ino)
            return write(*given)

        monkeypatch.setattr(simulated_domains, "write_simulated", overtaken)
        assert ensure_stand_ins(plan).stat().st_ino == made[0]

    @pytest.mark.parametrize("command", ["train", "leaderboard", "tune"])
    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--dataset", "Arts"], "the size of Arts is not known; it is of Beauty, "),
            (["--dataset", "Office", "--sources", "Office"], "--sources: the target Office is among its sources; "),
            (["--dataset", "Office", "--sources", "Home,Food"], "the size of Food is not known; "),
            (["--data_path", "."], "--data_path: --simulate makes its own data; leave one of them out"),
        ],
    )
    def test_mistakes(self, command, argv, message, calls, refused):
        refused([command, "--simulate", *argv], message)
        assert calls == []


def test_a_leaderboard_on_stand_ins_shows_their_names(empty_cache, tmp_path, capsys, forked_runs):
    words = ["leaderboard", "--simulate", "--dataset", "ml-drama", "--models", "Pop", "--seeds", "1", "--device=cpu"]
    assert cli.main(words) == 0
    assert "sim-ml-drama" in capsys.readouterr().out
    reports = tmp_path / "saved" / "leaderboard-sim-ml-drama"
    assert all("sim-ml-drama" in path.read_text() for path in reports.iterdir() if path.suffix in (".md", ".html"))
