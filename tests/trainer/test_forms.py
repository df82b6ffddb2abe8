"""Whether a value of a file is what a run would have written: each kind of damage, and the state of every learner."""

import copy
import math

import pytest
import torch
from support.fuzzing import leaves, parent_of, same

from recbole_metarec.errors import CheckpointError
from recbole_metarec.trainer import forms
from recbole_metarec.trainer.checkpoint import read_checkpoint, write_checkpoint
from recbole_metarec.trainer.forms import Dependent, Mismatch, Usual, checked, optimizer_form, read_as
from recbole_metarec.trainer.optimizers import RowwiseOptimizer, fused

NAN, INF, TWO = math.nan, math.inf, torch.ones(2)
FITS = [
    ({"a": 1, "b": ["x", None]}, {"a": 1, "b": ["x", None]}),
    ({"x": 0.5, "y": 2}, {...: forms.number}),
    ({"b": 1, "a": 2}, {"a": range(3), "b": Dependent(lambda known: range(known["a"]))}),
    ({}, {"a": Usual(3)}),
    ({1: 0}, {1: range(1)}),
    ((0, [2.5]), (range(1), [forms.finite_number])),
    (-INF, forms.number), (NAN, forms.number), (NAN, NAN), ((0.9, 0.999), (0.9, 0.999)),
    ([{"n": 0}, {"n": 1}], forms.rows(2, lambda row: {"n": row})),
    ({1: "x"}, forms.some({0: "x", 1: "x"})),
    (None, forms.of_type(str, type(None))),
    (torch.tensor([0.0, 3.0]), forms.tensor(TWO, 0, 3, whole=True)),
    (torch.tensor([NAN, INF]), forms.tensor(TWO, may_be_nan=True)),
    (torch.tensor([0.5, -INF]), TWO),
]  # fmt: skip
BROKEN = [  # (value, form, where)
    ([], {}, "the content"), ({}, {"a": 1}, "a"), ({"a": 1, "b": 1}, {"a": 1}, "b"), ({1: 1}, {...: 1}, "1"),
    ({True: 0}, {1: 0}, "True"), ({1.0: 0}, {1: 0}, "1.0"), ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 1]}}, r"a\.b\[1\]"),
    ({"a": 4}, {"a": Usual(3)}, "a"),
    ({"a": 2, "b": 2}, {"a": range(3), "b": Dependent(lambda known: range(known["a"]))}, "b"),
    ([1, 2], [1], "the content"), ((1,), [1], "the content"), (1.0, 1, "the content"), (True, 1, "the content"),
    (1, range(1), "the content"), (-1, range(1), "the content"), (True, range(2), "the content"),
    ("1", range(2), "the content"), (TWO, range(2), "the content"), (TWO, 1, "the content"), ([TWO], ["a"], r"\[0\]"),
    ("1", forms.number, "the content"), (2**60, forms.number, "the content"), (True, forms.number, "the content"),
    (NAN, forms.finite_number, "the content"), (INF, forms.finite_number, "the content"),
    ([1], forms.rows(2, lambda row: 1), "the content"), ((1,), forms.rows(1, lambda row: 1), "the content"),
    ([1, 2], forms.rows(2, lambda row: row), r"\[0\]"),
    ({}, forms.some({0: 1}), "the content"), ({0: 2}, forms.some({0: 1}), "0"), ({7: 1}, forms.some({0: 1}), "7"),
    (1, forms.of_type(str), "the content"),
    ([1.0, 1.0], TWO, "the content"), (TWO.double(), TWO, "the content"), (TWO[:1], TWO, "the content"),
    (TWO[None], TWO, "the content"), (TWO.to_sparse(), TWO, "the content"), (TWO * NAN, TWO, "the content"),
    (torch.zeros(()).expand(2), TWO, "the content"), (torch.zeros(1).expand(10**9), TWO, "the content"),
    (-TWO, forms.tensor(TWO, 0), "the content"), (TWO * 3, forms.tensor(TWO, 0, 2), "the content"),
    (TWO / 2, forms.tensor(TWO, whole=True), "the content"), (TWO * NAN, forms.tensor(TWO, 0, 2, True), "the content"),
]  # fmt: skip


@pytest.mark.parametrize("value, form", FITS, ids=map(str, range(len(FITS))))
def test_a_value_of_the_form_comes_out_as_it_went_in(value, form):
    assert same(checked(value, form), value | {"a": 3} if value == {} else value)


@pytest.mark.parametrize("value, form, where", BROKEN, ids=map(str, range(len(BROKEN))))
def test_any_other_value_is_refused_by_one_line_that_says_where(value, form, where):
    with pytest.raises(CheckpointError, match=f"^some.pth: {where} (is|holds) ") as refused:
        read_as("some.pth", value, form)
    assert "\n" not in str(refused.value)


def test_what_comes_out_shares_nothing_with_what_went_in():
    tensor = torch.ones(2)
    value = {"a": {0: tensor}, "b": tensor, "c": [1, [2]]}
    out = checked(value, {"a": {0: TWO}, "b": TWO, "c": forms.of_type(list)})
    tensor += 1
    value["a"][1] = 1
    value["c"][1].append(3)
    assert same(out, {"a": {0: TWO}, "b": TWO, "c": [1, [2]]})
    out["b"] += 1
    assert torch.equal(out["a"][0], TWO)


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
    for index, tensor in enumerate(tensors):
        tensor.grad = torch.randn_like(tensor)
        if sparse and index == 0:
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
    written = read_checkpoint(file)["optimizer"]
    rest = [torch.nn.Parameter(tensor.detach().clone()) for tensor in whole]
    second = MAKERS[name](rest)
    form = optimizer_form(second, 2, moves_all=True)
    second.load_state_dict(checked(written, form))
    assert same(second.state_dict(), first.state_dict())
    for optimizer, tensors in ((first, whole), (second, rest)):
        step(optimizer, tensors, 9, sparse)
    assert all(torch.equal(*pair) for pair in zip(whole, rest, strict=True))
    for path in leaves(written):
        spoilt = copy.deepcopy(written)
        parent_of(spoilt, path)[path[-1]] = torch.zeros(7)
        with pytest.raises(Mismatch, match=str(path[-1])):
            checked(spoilt, form)
        if "state" in path:  # a setting that is not there has its usual value
            spoilt = copy.deepcopy(written)
            del parent_of(spoilt, path)[path[-1]]
            with pytest.raises(Mismatch, match=f"{path[-1]} is missing"):
                checked(spoilt, form)
    if any("step" in path for path in leaves(written)):
        with pytest.raises(Mismatch, match="step (is|holds) "):
            checked(written, optimizer_form(second, 1, moves_all=True))


@pytest.mark.parametrize("name", MAKERS)
def test_an_empty_state_is_that_of_an_optimiser_which_has_not_stepped(name):
    fresh = MAKERS[name](parameters())
    content = copy.deepcopy(fresh.state_dict())
    if name not in ("adagrad",):  # which makes its state when it is built
        checked(content, optimizer_form(fresh, 0, moves_all=True))
    for moves_all in (True, False) if name not in ("sgd", "adagrad") else ():
        with pytest.raises(Mismatch, match=r"state(\.\d)? is"):
            checked(content, optimizer_form(fresh, 1, moves_all))
