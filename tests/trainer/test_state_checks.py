"""A training state made by hand, or damaged: one clear error with nothing restored, or exactly what the file says."""

import copy
import math
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.worlds import TINY, run, write_shop
from test_fuzz import _VALUES, fuzz, one_line, same

from recbole_metarec import quick_start
from recbole_metarec.cli.main import main
from recbole_metarec.errors import CheckpointError, TrainingError
from recbole_metarec.quick_start import run_experiment
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint
from recbole_metarec.trainer.optimizers import RowwiseOptimizer, fused
from recbole_metarec.trainer.state_checks import CheckedState

LEARNED = {"learn_inner_learning_rate": 0.01}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_shop(tmp_path_factory.mktemp("shop"))


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
    trainer = made.trainer
    write_checkpoint(folder / "model-last.pth", content)
    trainer.resume_checkpoint(folder / "model.pth")
    trainer._go_on_with_sources()


def standing(trainer) -> dict:
    """All that a state restores, as it is now."""
    parts = {"weights": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    parts |= {"sides": trainer.sources.state_dict(), "transfer": trainer.state.state_dict()}
    names = ("start_epoch", "cur_step", "best_valid_score", "pretrained", "history", "source_history", "_steps_done")
    return copy.deepcopy(parts | {name: getattr(trainer, name) for name in names} | {"signs": trainer.signs.seen})


def put(*path_and_value):
    """A mutation: the entry at the path becomes the value, or what a function makes of it."""
    *path, last, value = path_and_value

    def mutate(content: dict) -> None:
        for key in path:
            content = content[key]
        content[last] = value(content[last]) if callable(value) else value

    return mutate


def drop(*path):
    *path, last = path

    def mutate(content: dict) -> None:
        for key in path:
            content = content[key]
        del content[last]

    return mutate


def one_place(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(()).expand(like.shape)


NAN, MOMENTS, NEAR = math.nan, ("optimizer", "state", 0), ("source_sides", "sides", "Near")
GROUP, ROWS = ("optimizer", "param_groups", 0), ("source_sides", "optimizer", "state", 0)
TARGET_HALF = {
    "epoch": [put("epoch", value) for value in ("a", 0.5, None, True, -1, -7, 1, 10**9)],
    "cur_step": [put("cur_step", value) for value in ("a", None, -1, 2)],
    "best": [put("best_valid_score", value) for value in ("a", NAN, -math.inf, 0.999, 1)],
    "best result": [put("best_valid_result", value) for value in ("zzz", {}, {"ndcg@10": 2.0}, {1: 2.0})],
    "history": [put("history", value) for value in ("abc", [1], [1, 2], [], [{}], None)],
    "a row": [put("history", 0, key, value) for key in ("epoch", "train_loss") for value in ("a", None, [1], True)],
    "source_history": [put("source_history", value) for value in ("abc", [1], [{"source": "Near"}], [])],
    "a source's row": [put("source_history", 0, *pair) for pair in (("source", "Far"), ("loss", "a"), ("epoch", 0.0))],
    "signs": [put("signs", value) for value in ([1], "a", {"x": 1}, {1: "x"})],
    "steps": [put("steps", value) for value in ("a", 0, 1.0, 2)],
    "seconds": [put("seconds", value) for value in ("a", None, NAN, math.inf)],
    "pretrained": [put("pretrained", value) for value in ("x", 1, 10, -1)],
    "exp_avg": [
        put(*MOMENTS, name, value)
        for name in ("exp_avg", "exp_avg_sq")
        for value in (one_place, torch.zeros(1), torch.zeros(()), torch.Tensor.double, torch.Tensor.to_sparse, 0.0,
                      lambda t: t[:-1].clone(), lambda t: t * NAN, lambda t: torch.cat([t, t]))
    ],
    "squares": [put(*MOMENTS, "exp_avg_sq", lambda t: -t - 1)],
    "step": [put(*MOMENTS, "step", value) for value in ("a", 5, *map(torch.tensor, (-5.0, 0.5, 1e9, NAN, 5)))],
    "optimizer": [put("optimizer", {}), put("optimizer", "state", {}), drop(*MOMENTS), drop(*MOMENTS, "step"),
                  put("optimizer", "state", 10**6, {}), put("optimizer", "state", []), put("optimizer", None)],
    "settings": [put(*GROUP, *pair) for pair in (("lr", "a"), ("lr", NAN), ("lr", 0.5), ("betas", (2.0, 3.0)),
                                                 ("fused", False), ("params", [0]), ("zzz", 1))],
    "groups": [put("optimizer", "param_groups", value) for value in ([], "a", [1, 2])],
    "weights": [put("state_dict", "item_embedding.weight", lambda t: t * NAN), put("state_dict", {1: torch.ones(1)})],
    "another": [put("meta_transfer", torch.zeros(2)), put("learner", [torch.ones(2)])],
}  # fmt: skip
SOURCES_HALF = {
    "smoothed": [
        put("transfer", "smoothed", value)
        for value in (*map(torch.zeros, (1, 3)), torch.full((2,), NAN), torch.zeros(2, dtype=torch.float64),
                      torch.zeros(2, dtype=torch.int64), [0, 0], torch.zeros(1).expand(2))
    ],
    "transfer": [put("transfer", value) for value in (None, {}, [])],
    "transfer.steps": [put("transfer", "steps", value) for value in ("a", -1, 10**6)],
    "log_rates": [drop("transfer", "log_rates", "item_bias"), put("transfer", "log_rates", {}),
                  put("transfer", "log_rates", "zzz", torch.zeros(())), put("transfer", "log_rates", "item_bias", 0.1)],
    "rate_optimizer": [put("transfer", "rate_optimizer", None), put("transfer", "rate_optimizer", "state", {}),
                       put("transfer", "rate_optimizer", "state", 0, "exp_avg", torch.zeros(2))],
    "table": [
        put(*NEAR, "table", value)
        for value in (lambda t: t[:1].clone(), lambda t: t[:5].clone(), torch.zeros(()), lambda t: t * NAN, one_place,
                      torch.Tensor.long, lambda t: t.to(torch.complex64), "a")
    ],
    "bias": [put(*NEAR, "bias", torch.zeros(1))],
    "stream": [put(*NEAR, "position", value) for value in (10**6, -1, "a", 0.0)] + [put(*NEAR, "passed", "a")],
    "sides": [drop(*NEAR), put("source_sides", "sides", []), put("source_sides", "sides", "Other", {}),
              drop("source_sides")],
    "sources' optimizer": [put("source_sides", "optimizer", {}), put("source_sides", "optimizer", "state", {}),
                           put(*ROWS, "exp_avg", one_place), put(*ROWS, "exp_avg", torch.zeros(1))],
}  # fmt: skip


@pytest.mark.parametrize("part", [*TARGET_HALF, *SOURCES_HALF])
def test_a_state_that_no_run_has_written_is_refused_and_nothing_is_restored(part, genuine, made, tmp_path):
    resume(made, genuine, tmp_path)
    before = standing(made.trainer)
    for mutate in (SOURCES_HALF | TARGET_HALF)[part]:
        content = copy.deepcopy(genuine)
        mutate(content)
        with pytest.raises(CheckpointError) as refused:
            resume(made, content, tmp_path)
        assert one_line(refused.value).startswith(f"{tmp_path / 'model-last.pth'}: ")
        assert same(standing(made.trainer), before)


def leaves(value, path=()):
    """Paths of all that is no dict and no list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [path] if inner is None else [found for key, part in inner for found in leaves(part, (*path, key))]


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
    path = data.draw(st.sampled_from([path for path in leaves(content) if path != ("format",)]))
    *parents, last = path
    parent = content
    for key in parents:
        parent = parent[key]
    parent[last] = data.draw(st.one_of(other_tensors(parent[last]), _VALUES))
    before = standing(made.trainer)
    try:
        resume(made, content, tmp_path)
    except CheckpointError as error:
        one_line(error)
        if path[0] not in ("source_sides", "transfer", "sources"):
            assert same(standing(made.trainer), before)
        return
    made.trainer._save_training_state(content["epoch"])
    written = read_checkpoint(made.trainer.training_state_file)
    for key in content.keys() - {"seconds"}:
        assert same(written[key], content[key]), key
    assert written["seconds"] >= content["seconds"]
    try:
        made.trainer._train_epoch(made.train, content["epoch"] + 1)
    except TrainingError as error:  # numbers so large that the loss is not finite
        one_line(error)


# -- optimisers ----------------------------------------------------------------------------------------------------

MAKERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: fused(torch.optim.AdamW(p, lr=0.1)),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
    "sparse_adam": lambda p: torch.optim.SparseAdam(p[:1], lr=0.1),
    "rowwise": lambda p: RowwiseOptimizer(torch.optim.AdamW(p, lr=0.1), p[:1]),
}


def parameters(seed: int = 3) -> list[torch.nn.Parameter]:
    torch.manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in ((6, 2), (4,), ())]


def step(optimizer, tensors, seed: int, sparse: bool) -> None:
    torch.manual_seed(seed)
    for place, tensor in enumerate(tensors):
        tensor.grad = torch.randn_like(tensor)
        if sparse and place == 0:
            tensor.grad = (tensor.grad * torch.tensor([[1.0], [0], [0], [1], [0], [0]])).to_sparse(1)
    optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
def test_every_learner_goes_on_from_its_own_state_to_the_bit_and_from_no_other(name, tmp_path):
    sparse = name in ("sparse_adam", "rowwise")
    whole, file = parameters(), tmp_path / "state.pth"
    first = MAKERS[name](whole)
    for seed in range(2):
        step(first, whole, seed, sparse)
    write_checkpoint(file, {"optimizer": first.state_dict()})
    rest = [torch.nn.Parameter(tensor.detach().clone()) for tensor in whole]
    second = MAKERS[name](rest)
    found = CheckedState(file, read_checkpoint(file)).optimizer("optimizer", second, 2, "all")
    second.load_state_dict(found)
    assert same(second.state_dict(), first.state_dict())
    for optimizer, tensors in ((first, whole), (second, rest)):
        step(optimizer, tensors, 9, sparse)
    assert all(torch.equal(*pair) for pair in zip(whole, rest, strict=True))
    for path in leaves(read_checkpoint(file)["optimizer"]):
        if "params" in path:
            continue
        spoilt = read_checkpoint(file)
        put("optimizer", *path, torch.zeros(7))(spoilt)
        with pytest.raises(CheckpointError, match=str(path[-1])):
            CheckedState(file, spoilt).optimizer("optimizer", second, 2, "all")


@pytest.mark.parametrize("name", MAKERS)
def test_an_empty_state_is_that_of_an_optimiser_which_has_not_stepped(name, tmp_path):
    fresh = MAKERS[name](parameters())
    content = {"optimizer": copy.deepcopy(fresh.state_dict())}
    CheckedState("file", content).optimizer("optimizer", fresh, 0, "none")
    if name in ("adam", "adamw", "momentum", "rmsprop", "rowwise"):
        with pytest.raises(CheckpointError, match="it is missing|it is empty"):
            CheckedState("file", content).optimizer("optimizer", fresh, 1, "all")


def test_moments_that_share_their_numbers_in_the_file_are_apart_once_restored():
    own = parameters()[:1]
    optimizer = torch.optim.Adam(own, lr=0.1)
    step(optimizer, own, 0, False)
    content = {"optimizer": copy.deepcopy(optimizer.state_dict())}
    moments = content["optimizer"]["state"][0]
    moments["exp_avg_sq"] = moments["exp_avg"].abs_()
    state = CheckedState("file", content).optimizer("optimizer", optimizer, 1)["state"][0]
    assert torch.equal(state["exp_avg"], state["exp_avg_sq"])
    assert state["exp_avg"].data_ptr() != state["exp_avg_sq"].data_ptr()


# -- the command ---------------------------------------------------------------------------------------------------

OF_BOTH = [put("epoch", 0.5), put(*MOMENTS, "exp_avg", one_place), put(*GROUP, "lr", 0.5)]
OF_METAREC = [*OF_BOTH, put(*NEAR, "table", lambda t: t[:1].clone()), put(*NEAR, "position", "a")]
GENERATORS = ("python", (1, 2)), ("numpy", "a"), ("torch", torch.zeros(3)), ("loader", None), ("cuda", "a")
OF_SASREC = [
    *OF_BOTH,
    *(put("generators", *pair) for pair in GENERATORS),
    put("generators", "numpy", lambda state: (*state[:2], 10**6, *state[3:])),
    put("generators", "python", lambda state: (*state[:2], "a")),
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
