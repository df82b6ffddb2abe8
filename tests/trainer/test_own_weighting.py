"""A weighting of the user: named by the key, asked in every step, part of the identity of a run."""

import sys
from pathlib import Path

import pytest
from support.worlds import baseline, distance, equal, run

from recbole_metarec.cli import main as cli
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import make_plan
from recbole_metarec.runs.code_version import without_own_files
from recbole_metarec.trainer.weighting import weighting_of

MINE = """
from recbole_metarec.trainer.weighting import SimilarityWeighting

TIMES = 2


class Same(SimilarityWeighting):
    pass


class First(SimilarityWeighting):
    seen = []

    def weights(self, scores, usable, step):
        First.seen.append(step)
        return (usable & (usable.cumsum(0) == 1)).float()


class Doubled(SimilarityWeighting):
    def combined(self, counted, gradients):
        return {name: TIMES * value for name, value in super().combined(counted, gradients).items()}


class NoWeighting:
    pass
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_transfer.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_transfer", raising=False)
    yield tmp_path / "my_transfer.py"
    sys.modules.pop("my_transfer", None)


def test_one_that_changes_nothing_is_the_similarity_to_the_bit_and_others_are_not(shop):
    assert equal(run(shop, gradient_rescaling="my_transfer.py:Same").weights(), baseline(shop))
    for name in ("First", "Doubled"):
        changed = run(shop, gradient_rescaling=f"my_transfer.py:{name}", learner="sgd").weights()
        assert distance(changed, run(shop, learner="sgd").weights()) > 1e-4


def test_weights_are_asked_with_the_steps_done_and_kept_beside_the_run(shop):
    made = run(shop, gradient_rescaling="my_transfer.py:First")
    steps = made.trainer.steps_done
    assert sorted(set(weighting_of("my_transfer.py:First").seen)) == list(range(steps))
    assert {row["weight"] for row in made.trainer.log.source_history} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "my_transfer.py:NoWeighting",
            "gradient_rescaling: my_transfer.py:NoWeighting is no SourceWeighting; ",
        ),
        ("my_transfer.py:Frist", "gradient_rescaling: there is no class Frist in my_transfer.py; did you mean First?"),
        (
            "similarty",
            "--gradient_rescaling is similarty; use similarity or uniform or my_file.py:MyClass (",
        ),
    ],
)
def test_what_is_no_weighting_is_told_before_any_run(given, said, shop, capsys, tmp_path):
    before = set(tmp_path.iterdir())
    words = ["--dataset", "Target", "--data_path", str(shop), "--sources", "Near", f"--gradient_rescaling={given}"]
    assert cli.main(["train", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"__pycache__"}


def test_its_file_belongs_to_the_identity_of_a_run_and_a_folder_does_not_import_it(shop, mine, capsys):
    keys = {"data_path": str(shop), "sources": ["Near"], "gradient_rescaling": "my_transfer.py:Doubled"}
    plan = lambda: make_plan(competitors(["MetaRec", "LRURec"]), "Target", [1], keys)  # noqa: E731
    before = plan()
    mine.write_text(MINE.replace("TIMES = 2", "TIMES = 3"))
    after = plan()
    assert [one.key == other.key for one, other in zip(before, after)] == [False, True]
    assert without_own_files(before[0].code) == before[1].code and before[0].model_files == [str(mine)]
    words = [
        "--dataset",
        "Target",
        "--data_path",
        str(shop),
        "--sources",
        "Near",
        "--epochs=0",
        "--transfer_guard=False",
    ]
    assert cli.main(["train", *words, "--gradient_rescaling=my_transfer.py:Same", "--state=ERROR"]) == 0
    (folder,) = Path("saved").glob("MetaRec-*")
    capsys.readouterr()
    assert cli.main(["train", "--resume", str(folder)]) == 2
    said = f"error: --resume: {folder} weights sources by a class of your own; add "
    said += "--gradient_rescaling=my_transfer.py:Same\n"
    assert capsys.readouterr().err == said
    assert cli.main(["train", "--resume", str(folder), "--gradient_rescaling=my_transfer.py:Same"]) == 0


def test_a_class_that_is_not_there_is_one_line():
    with pytest.raises(ConfigError, match="^gradient_rescaling: absent.py: no such file"):
        weighting_of("absent.py:Mine")
