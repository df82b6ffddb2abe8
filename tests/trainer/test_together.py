"""Several processes train one model, and find what one process finds. Two of them, by gloo, on tiny domains."""

import json
import shutil

import pytest
import torch
from support import together
from support.worlds import TINY, distance, run, write_shop

from recbole_metarec import processes
from recbole_metarec.cli.main import main
from recbole_metarec.data.batches import BatchShare, SequenceBatch
from recbole_metarec.model.lru import dropout
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.randomness import RowsOf
from recbole_metarec.trainer.optimizers import joined_states, part_of_state

MEMORY = {"item_memory": True, "seen_offset": True, "memory_neighbours": 6}
# AdamW makes a step of full length of a gradient that is all rounding; by SGD rounding stays what it is
SGD = {"learner": "sgd", "learning_rate": 0.1, "epochs": 2}
CASES = {
    "plain": ("LRURec", SGD | MEMORY),
    "rows": ("LRURec", {"target_negatives": 6, "epochs": 2}),
    "meta": ("MetaRec", SGD | MEMORY | {"source_weight": 0.5, "learn_inner_learning_rate": 0.05}),
    "phi": ("MetaRec", SGD | {"similarity_at": "phi", "target_batch": "shared", "second_order": True}),
    "joint": ("MetaRec", SGD | MEMORY | {"meta_transfer": "joint"}),
    "pretrain": ("MetaRec", SGD | {"meta_transfer": "pretrain", "pretrain_epochs": 1}),
    "resumed": ("MetaRec", {"source_negatives": 6, "epochs": 3}),
}
ROUNDING = 2e-5  # of weights of size 1, after some thirty steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("together")
    write_shop(made / "domains")
    return made


@pytest.fixture(scope="module")
def started_alone(folder):
    """The first epoch of the run that two processes resume, done by one."""
    model, given = CASES["resumed"]
    made = run(folder / "domains", model, saved=True, checkpoint_dir=str(folder / "first"), **given | {"epochs": 1})
    return made.trainer.saved_model_file


@pytest.fixture(scope="module")
def found(folder, started_alone):
    """What each of two processes has at the end of each case."""
    words = [[*case, started_alone if name == "resumed" else None] for name, case in CASES.items()]
    (folder / "cases.json").write_text(json.dumps(words))
    started = together.start(folder, together.__file__, str(folder / "cases.json"), str(folder / "found.pt"))
    for code, _, error in together.ends(started):
        assert code == 0, error
    both = [torch.load(folder / f"found.{number}", weights_only=False) for number in range(2)]
    return {name: (both[0][number], both[1][number]) for number, name in enumerate(CASES)}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_find_what_one_finds(folder, found, name):
    model, given = CASES[name]
    alone = together.answers(run(folder / "domains", model, saved=True, **given))
    for mine in found[name]:
        assert distance(mine["weights"], alone["weights"]) < ROUNDING and mine["steps"] == alone["steps"]
        assert mine["score"] == pytest.approx(alone["score"], abs=1e-6)
        assert len(mine["history"]) == len(alone["history"])
        for ours, theirs in zip(mine["source_history"], alone["source_history"], strict=True):
            assert ours.keys() == theirs.keys() and ours == pytest.approx(theirs, abs=1e-3), ours["source"]
    first, second = found[name]
    assert all(torch.equal(value, second["weights"][key]) for key, value in first["weights"].items())  # to the bit
    assert not alone["tables"] or distance(first["tables"], alone["tables"]) < ROUNDING
    assert len(second["tables"]) < max(2, len(first["tables"]))  # the first alone has those of all, to write them


def test_only_the_first_process_writes(folder, found):
    for number, name in enumerate(CASES):
        if name != "resumed":
            assert sorted(path.suffix for path in (folder / f"saved-{number}").iterdir()) == [".pth", ".pth"]
    assert len(list((folder / "log_tensorboard").iterdir())) <= len(CASES)


def test_one_process_resumes_what_two_have_trained(folder, found, tmp_path):
    model, given = CASES["meta"]
    file = found["meta"][0]["file"]
    assert found["meta"][1]["file"] != "" and (folder / "saved-2").is_dir()
    rest = run(folder / "domains", model, fit=False, **given | {"epochs": 4})
    rest.trainer.resume_checkpoint(shutil.copy(file, tmp_path) and file)
    rest.fit(saved=True)
    whole = run(folder / "domains", model, **given | {"epochs": 4})
    assert distance(rest.weights(), whole.weights()) < ROUNDING


# -- through the command line ------------------------------------------------------------------------------------------

DIES = """
import os, sys
from recbole_metarec import processes
from recbole_metarec.trainer.trainer import TransferTrainer
from recbole_metarec.cli.main import main

after = TransferTrainer._after_validation
def dies(self, epoch, *rest):
    if epoch == 1 and processes.number() == 1:
        os.kill(os.getpid(), 9)
    after(self, epoch, *rest)

TransferTrainer._after_validation = dies
sys.exit(main(sys.argv[1:]))
"""


def test_a_lost_process_ends_the_run_with_one_line_and_the_run_resumes(folder, tmp_path):
    keys = TINY | SGD | {"epochs": 3, "sources": "Near,Far", "data_path": folder / "domains"}
    keys |= {"transfer_guard": False, "show_progress": False}
    words = ["train", "--dataset", "Target", *(f"--{key}={value}" for key, value in keys.items())]
    first, second = together.ends(together.start(tmp_path, "-c", DIES, *words))
    (run_dir,) = (tmp_path / "saved").iterdir()
    assert (first[0], second[0]) == (2, -9) and second[1:] == ("", "")
    errors = [line for line in first[2].splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "processes of this run is gone" in errors[0]
    assert f"recbole-metarec train --resume {run_dir.relative_to(tmp_path)}" in errors[0]
    rest = run_experiment(resume=run_dir)
    whole = run_experiment(
        "MetaRec",
        "Target",
        overrides=keys | {"data_path": str(keys["data_path"]), "checkpoint_dir": str(tmp_path / "b")},
    )
    assert rest.metrics["valid"] == pytest.approx(whole.metrics["valid"], abs=1e-6)
    assert rest.metrics["epochs"] == whole.metrics["epochs"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --model UniSRec --dataset ml-office", "UniSRec trains in one process"),
        ("train --model SASRec --dataset ml-office", "SASRec trains in one process"),
        ("leaderboard --dataset ml-office", "leaderboard runs in one process"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_by_name(monkeypatch, capsys, words, said):
    for word, value in zip(processes._WORDS, ("0", "2", "0", "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(word, value)
    monkeypatch.setattr("recbole_metarec.data.domains.find_domain", lambda *_: None)
    monkeypatch.setattr("recbole_metarec.data.domains.resolve_sources", lambda *_: ([], []))
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


# -- the parts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def among(monkeypatch):
    """This process as if it were one of several, without the others."""

    def be(number: int, count: int) -> None:
        monkeypatch.setattr(processes, "_met", True)
        for word, value in zip(processes._WORDS, (number, count, number, "127.0.0.1", 1), strict=True):
            monkeypatch.setenv(word, str(value))

    return be


def test_processes_that_have_not_met_each_do_all_of_the_work(among, monkeypatch):
    among(1, 3)
    assert (processes.count(), processes.number(), processes.is_first()) == (3, 1, False)
    monkeypatch.setattr(processes, "_met", False)  # as in a program of the user's own that torchrun starts
    assert (processes.count(), processes.number(), processes.is_first()) == (1, 0, True)
    assert processes.portion(10) == (slice(None), 1.0) and processes.assigned([1, 2]) == [0, 1]
    assert processes.started() == 3 and not processes.speaks()


@pytest.mark.parametrize("things", [0, 1, 2, 3, 10, 11])
def test_the_parts_of_a_mean_add_up_to_it(among, things):
    values, total = torch.arange(1.0, things + 1), 0.0
    for number in range(3):
        among(number, 3)
        part = processes.portion(things)
        total += part.of(values[part.rows].mean()) if things else 0.0
    assert float(total) == pytest.approx(float(values.mean()) if things else 0.0)


def test_sources_are_dealt_to_whoever_has_the_least(among):
    costs, shares = [5, 1, 9, 4, 4, 2, 3], []
    for number in range(3):
        among(number, 3)
        shares.append(processes.assigned(costs))
    assert sorted(task for share in shares for task in share) == list(range(7))
    loads = [sum(costs[task] for task in share) for share in shares]
    assert max(loads) - min(loads) <= 2 and all(share == sorted(share) for share in shares)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_rows_of_a_batch_drop_out_what_they_drop_out_in_the_whole(among, count):
    batch = SequenceBatch(*(torch.randint(1, 9, (count, 3)) for _ in range(2)))
    x = torch.rand(count, 3, 4)
    whole = dropout(x, 0.5, torch.Generator().manual_seed(1))
    weights = 0.0
    for number in range(3):
        among(number, 3)
        share, generator = BatchShare.of(batch), torch.Generator().manual_seed(1)
        drawing = share.drawing(generator)
        rows = x[share.portion(count).rows]
        assert isinstance(drawing, RowsOf) and share.drawing(None) is None
        assert torch.equal(dropout(rows, 0.5, drawing), whole[share.portion(count).rows])
        weights += float(share.part_of(torch.tensor(1.0)))
    assert weights == pytest.approx(1.0)


def test_optimisers_of_some_tables_each_are_one_of_all(among):
    def optimizer(tables):
        groups = [{"params": [one for one, _ in tables]}, {"params": [two for _, two in tables], "lr": 0.5}]
        made = torch.optim.AdamW(groups, lr=0.1)
        for table in (one for pair in tables for one in pair):
            table.grad = table.detach().clone()
        made.step()
        return made

    def tables():
        return [(torch.full((2,), k + 1.0), torch.full((3,), k + 5.0)) for k in range(5)]

    whole = optimizer(tables()).state_dict()
    parts = [(own, optimizer([tables()[k] for k in own]).state_dict()) for own in ([0, 3], [1, 2, 4])]
    joined = joined_states(parts)
    assert str(joined) == str(whole) and joined.keys() == whole.keys()
    assert all(str(part_of_state(whole, own, 5)) == str(state) for own, state in parts)
    assert str(joined_states([(own, {"dense": state}) for own, state in parts])) == str({"dense": whole})
