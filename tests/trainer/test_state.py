"""A training state made by hand, or damaged: one clear error with nothing restored, or exactly what the file says."""

import copy
import math
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import VALUES, fuzz, leaves, one_line, parent_of, same
from support.worlds import TINY, run

from recbole_metarec import quick_start
from recbole_metarec.cli.main import main
from recbole_metarec.errors import CheckpointError, TrainingError
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint
from recbole_metarec.trainer.state import TrainingState

pytestmark = pytest.mark.usefixtures("without_pictures")

LEARNED = {"learn_inner_learning_rate": 0.01}


@pytest.fixture(scope="module")
def genuine(shop):
    """The state of a run after its first epoch."""
    return read_checkpoint(run(shop, saved=True, epochs=1, **LEARNED).trainer.training_state_file)


@pytest.fixture(scope="module")
def made(shop):
    """A run of the same config, which has seen its sources: to be resumed again and again."""
    made = run(shop, fit=False, epochs=9, **LEARNED)
    made.trainer.tensorboard = Mock()  # its thread writes into the folder of the one test in which it began
    made.trainer._set_up(made.train)
    return made


def resume(made, content: dict, folder) -> None:
    """As the trainer does it with what stands in a file."""
    TrainingState.from_checkpoint(folder / "model-last.pth", content, made.trainer).restore(made.trainer)


def standing(trainer) -> dict:
    """All that a state restores, as it is now."""
    content = copy.deepcopy(TrainingState.of(trainer, trainer.start_epoch - 1).to_checkpoint())
    return {name: value for name, value in content.items() if name != "seconds"}


def is_refused(made, content: dict, folder) -> str:
    """Whether it is, in one line that names the file, with everything left as it was; the line."""
    before = standing(made.trainer)
    with pytest.raises(CheckpointError) as refused:
        resume(made, content, folder)
    assert one_line(refused.value).startswith(f"{folder / 'model-last.pth'}: ")
    assert same(standing(made.trainer), before)
    return str(refused.value)


def put(*path_and_value):
    """A mutation: the entry at the path becomes the value, or what a function makes of it."""
    *path, value = path_and_value

    def mutate(content: dict) -> None:
        parent = parent_of(content, path)
        parent[path[-1]] = value(parent[path[-1]]) if callable(value) else value

    return mutate


def one_place(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(()).expand(like.shape)


NAN, MOMENTS, GROUP = math.nan, ("optimizer", "state", 0), ("optimizer", "param_groups", 0)
ROWS, NEAR = ("source_sides", "optimizer", "state", 0), ("source_sides", "sides", "Near")
# of the right type and shape, but no run has come to it; and what an optimiser would write beyond the end of
NEVER_REACHED = {
    "epoch": [put("epoch", -1), put("epoch", 1), put("epoch", 10**9)],
    "cur_step": [put("cur_step", -1), put("cur_step", 2)],
    "best_valid_score": [put("best_valid_score", value) for value in (NAN, -math.inf, 0.999)],
    "best_valid_result": [put("best_valid_result", {}), put("best_valid_result", "ndcg@10", math.inf)],
    "pretrained": [put("pretrained", 1), put("pretrained", -1)],
    "history": [put("history", []), put("history", 0, "epoch", 1), put("history", lambda rows: rows * 2)],
    "source_history": [put("source_history", []), put("source_history", 0, "source", "Far"),
                       put("source_history", lambda rows: rows[::-1])],
    "steps": [put("steps", 0)],
    "seconds": [put("seconds", NAN), put("seconds", math.inf)],
    "meta_transfer": [put("meta_transfer", "joint")],
    "sources": [put("sources", ["Far", "Near"]), put("sources", ["Near"])],
    "optimizer": [put("optimizer", "state", {}), put(*GROUP, "lr", 0.5), put(*GROUP, "params", [0]),
                  *(put(*MOMENTS, name, value) for name in ("exp_avg", "exp_avg_sq")
                    for value in (one_place, torch.zeros(1), torch.Tensor.double, lambda t: t[:-1].clone(),
                                  lambda t: torch.cat([t, t]))),
                  put(*MOMENTS, "exp_avg_sq", lambda t: -t - 1),
                  *(put(*MOMENTS, "step", torch.tensor(value)) for value in (-5.0, 0.5, 1e9, 5))],
    "source_sides": [put("source_sides", "optimizer", "state", {}), put(*ROWS, "exp_avg", one_place),
                     put(*ROWS, "exp_avg", torch.zeros(1)), put(*NEAR, "table", lambda t: t[:5].clone()),
                     put(*NEAR, "position", 10**6), put(*NEAR, "passed", -1)],
    "transfer": [put("transfer", "steps", 10**6), put("transfer", "steps", 0),
                 put("transfer", "smoothed", torch.zeros(3)), put("transfer", "rate_optimizer", None),
                 put("transfer", "rate_optimizer", "state", {}),
                 put("transfer", "rate_optimizer", "state", 0, "exp_avg", torch.zeros(2))],
}  # fmt: skip


@pytest.mark.parametrize("part", NEVER_REACHED)
def test_a_state_that_no_run_has_come_to_is_refused(part, genuine, made, tmp_path):
    resume(made, genuine, tmp_path)
    for mutate in NEVER_REACHED[part]:
        content = copy.deepcopy(genuine)
        mutate(content)
        is_refused(made, content, tmp_path)


def dicts(value, path=()):
    """Paths of all dicts, the whole one first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * isinstance(value, dict) + [each for key, part in inner for each in dicts(part, (*path, key))]


FREE = ("best_valid_result", "signs", "history", "source_history")  # where there may be further names
USUAL = ("param_groups", "history", "source_history", "best_valid_result")  # and where one may be absent


@fuzz(60)
@given(data=st.data())
def test_an_entry_that_is_missing_or_unknown_anywhere_is_refused(data, genuine, made, tmp_path):
    content = copy.deepcopy(genuine)
    path = data.draw(st.sampled_from(dicts(content)))
    part = parent_of(content, (*path, None))
    if data.draw(st.booleans()) and not set(path) & set(FREE):
        part[data.draw(st.sampled_from(["more", 10**6, True, 0.5]))] = data.draw(VALUES)
    elif part and not set(path) & set(USUAL):
        del part[data.draw(st.sampled_from(list(part)))]
    else:
        return
    is_refused(made, content, tmp_path)


def other_tensors(value) -> st.SearchStrategy:
    if not isinstance(value, torch.Tensor):
        return st.sampled_from([torch.zeros(()), torch.ones(2), torch.zeros(0)])
    made = [torch.ones_like(value), value * 0.5, -value, value + math.inf, value * NAN, value.double(), value[None],
            value.flatten()[:1], one_place(value), value.to(torch.int8), torch.zeros(1).expand(10**9)]  # fmt: skip
    return st.sampled_from(made)


@fuzz(40)
@given(data=st.data())
def test_any_leaf_is_refused_or_restored_as_it_stands_in_the_file(data, genuine, made, tmp_path):
    content = copy.deepcopy(genuine)
    path = data.draw(st.sampled_from(leaves(content)))
    parent = parent_of(content, path)
    parent[path[-1]] = data.draw(st.one_of(other_tensors(parent[path[-1]]), VALUES))
    before = standing(made.trainer)
    try:
        resume(made, content, tmp_path)
    except CheckpointError as error:
        one_line(error)
        assert same(standing(made.trainer), before)
        return
    written = TrainingState.of(made.trainer, content["epoch"]).to_checkpoint()
    for key in content.keys() - {"seconds", "format"}:
        assert same(written[key], content[key]), key
    assert written["seconds"] >= content["seconds"]
    try:
        made.trainer._train_epoch(made.train, content["epoch"] + 1)
    except TrainingError as error:  # numbers so large that the loss is not finite
        one_line(error)


def test_a_state_of_version_0_1_with_an_unused_optimiser_by_rows_is_resumed(shop, tmp_path):
    given = {"target_negatives": 6}
    first = run(shop, saved=True, epochs=1, **given)
    content = read_checkpoint(first.trainer.training_state_file)
    content["optimizer"] = {"dense": content["optimizer"], "rows": {"state": {}, "param_groups": [{"lr": 0.01}]}}
    rest = run(shop, fit=False, epochs=2, **given)
    write_checkpoint(tmp_path / "model-last.pth", content)
    rest.trainer.resume_checkpoint(tmp_path / "model.pth")
    rest.fit()
    assert same(rest.weights(), run(shop, epochs=2, **given).weights())


# -- the command ---------------------------------------------------------------------------------------------------

OF_BOTH = [put("epoch", 0.5), put(*MOMENTS, "exp_avg", one_place), put(*GROUP, "lr", 0.5)]
OF_METAREC = [*OF_BOTH, put(*NEAR, "table", lambda t: t[:1].clone()), put(*NEAR, "position", "a")]
GENERATORS = ("python", (1, 2)), ("numpy", "a"), ("torch", torch.zeros(3)), ("loader", None), ("cuda", "a")
OF_SASREC = [
    *OF_BOTH,
    *(put("generators", *pair) for pair in GENERATORS),
    put("generators", "numpy", lambda state: (*state[:2], 10**6, *state[3:])),
    put("generators", "python", lambda state: (*state[:2], "a")),
    put("generators", "torch", lambda state: state * 0 + 255),
    put("train_losses", {0: "a"}), put("train_losses", {}), put("passes", "a"), put("best", None), put("history", []),
    put("other_parameter", {"a": 1}), put("cur_step", "a"), put("best_valid_score", NAN), put("seconds", "a"),
    put("state_dict", {}), put("history", 0, "valid_score", "a"),
]  # fmt: skip


@pytest.mark.parametrize("model, mutations", [("MetaRec", OF_METAREC), ("SASRec", OF_SASREC)])
def test_the_command_says_it_in_one_line(model, mutations, shop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quick_start, "_draw", lambda *_: None)
    given = TINY if model == "MetaRec" else {"epochs": 1, "hidden_size": 8, "n_heads": 1, "n_layers": 1, "topk": [10]}
    given = given | ({"sources": ["Near"], "transfer_guard": False, "epochs": 1} if model == "MetaRec" else {})
    quiet = {"data_path": str(shop), "state": "ERROR", "show_progress": False, "device": "cpu"}
    run_dir = run_experiment(model, "Target", overrides=given | quiet | {"checkpoint_dir": str(tmp_path)}).run_dir
    (run_dir / "metrics.json").unlink()
    state = run_dir / "model-last.pth"
    genuine = read_checkpoint(state)
    for mutate in mutations:
        content = copy.deepcopy(genuine)
        mutate(content)
        write_checkpoint(state, content)
        capsys.readouterr()
        assert main(["train", "--resume", str(run_dir)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {state}: ") and error.count("\n") == 1, error
    write_checkpoint(state, genuine)
    assert main(["train", "--resume", str(run_dir)]) == 0
