"""The same answer everywhere: threads, devices, batch sizes, numbers of items, processes. Each tolerance has a reason.

What is random (masks of dropout, start values, the order of batches) is drawn by numbers of rows and items, and left
out here: a test gives both sides the same weights and drops nothing.
"""

import os
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.answers import World, answers, assert_ranks, assert_same
from support.tiny import random_batch, tiny_metarec
from support.worlds import TINY, Run, cluster_histories, write_domain

# isort: split
from recbole_metarec.data.batches import SequenceBatch
from recbole_metarec.evaluation import ranking
from recbole_metarec.jobs.competitors import competitors
from recbole_metarec.jobs.plan import make_plan
from recbole_metarec.jobs.pool import Runner
from recbole_metarec.jobs.store import RunStore
from recbole_metarec.jobs.train import train
from recbole_metarec.jobs.worker import read_result
from recbole_metarec.model.quantizer import nearest_codes
from recbole_metarec.plugin.dataset import read_source_items
from recbole_metarec.randomness import Streams
from recbole_metarec.trainer import meta_step as meta

pytestmark = pytest.mark.usefixtures("without_pictures")

# float32 keeps 6e-8 of a number. A sum of n terms in another order is off by some sqrt(n) of that; n is at most 500
# items, 600 events or 20 steps of a recurrence here, and a gradient runs through some ten sums. Measured: 1.4e-6.
THREADS = 1e-5
# From one to another way to compute it: each is off from the exact answer by 1.2e-5, measured for a CPU in float32. A
# GPU adds in another order and scans by doubling, which raises an eigenvalue to powers of 16; both were not measured.
GPU = 1e-4


@pytest.fixture(scope="module")
def world():
    return World.make()


@pytest.fixture
def threads():
    """Sets how many threads PyTorch computes with, and puts the number back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_one_thread_and_two_give_the_same_and_each_repeats_itself_to_the_bit(world, threads):
    found = []
    for number in (1, 2):
        threads(number)
        found.append(answers(world))
        again = answers(world)
        assert all(torch.equal(value, again[name]) for name, value in found[-1].items())
    assert_same(*found, THREADS)


def test_what_float32_answers_is_near_what_float64_does(world):
    """What any device answers in float32 is, too, within the half of what two of them may differ by."""
    assert_same(answers(world.double()), answers(world), GPU / 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: CPU and GPU are not compared")
def test_cpu_and_gpu_give_the_same(world):
    assert_same(answers(world), answers(world, "cuda"), GPU)


# -- batches -----------------------------------------------------------------------------------------------------------


def made(shop, model="LRURec", **given) -> Run:
    """A model with weights that tell items apart."""
    keys = TINY if model == "MetaRec" else {key: value for key, value in TINY.items() if key != "vq_heads"}
    run = Run(shop, model=model, **(keys | given))
    with torch.no_grad():
        run.model.item_embedding.weight[1:].normal_()
    return run


def test_evaluation_in_batches_of_one_of_seven_and_of_all_gives_the_same(shop, monkeypatch):
    """A matrix product of one row is another routine than of many: scores of up to 10 are off by some 1e-6."""
    run = made(shop)
    rows = run.test._dataset.inter_feat
    scores = run.model.eval().full_sort_predict(rows).detach()
    found = []
    for size in (1, 7, len(rows)):
        monkeypatch.setattr(ranking, "_SCORES_PER_CHUNK", size * run.dataset.item_num)
        monkeypatch.setattr(ranking, "_FEWEST_ROWS", 1)
        monkeypatch.setattr(ranking, "_POSITIONS_PER_CHUNK", 10**9)
        ranks = torch.from_numpy(run.trainer.rank(run.test))
        in_doubt = assert_ranks(scores, rows["item_id"], ranks, 1e-5)
        found.append(run.trainer.evaluate(run.test, load_best_model=False))
    for result in found[1:]:  # a row in doubt can change a metric by 1 / rows at the most
        assert dict(result) == pytest.approx(dict(found[0]), abs=in_doubt + 1e-12)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_recboles_evaluation_batch_size_decides_nothing(shop, size):
    torch.manual_seed(5)
    one = made(shop)
    torch.manual_seed(5)
    other = made(shop, eval_batch_size=size)
    other.model.load_state_dict(one.model.state_dict())
    assert np.array_equal(one.trainer.rank(one.test), other.trainer.rank(other.test))


@pytest.mark.parametrize("plain", [False, True])
def test_the_gradient_of_a_batch_is_the_mean_of_its_parts_by_their_events(plain):
    """Exact in arithmetic; float64 keeps 1e-16 of a number, and some hundred terms are added: 1e-12 is ample."""
    model, *_ = tiny_metarec(n_target=30)
    parameters = dict(model.named_parameters())
    batch = random_batch(30, [9, 8, 8, 7, 5, 4, 4, 3, 2, 1])
    loss = model.target_loss(parameters, batch, plain=plain)
    whole = meta.gradients(loss, parameters)
    parts = [batch.rows(torch.tensor(rows)) for rows in ([0], [5, 2, 9], [8, 1, 3, 4, 6, 7])]
    shares = torch.tensor([float((part.targets > 0).sum()) for part in parts], dtype=torch.float64)
    shares /= shares.sum()
    losses = [model.target_loss(parameters, part, plain=plain) for part in parts]
    found = meta.weighted_sum(shares, [meta.gradients(part, parameters) for part in losses])
    torch.testing.assert_close(sum(share * part for share, part in zip(shares, losses)), loss, rtol=1e-12, atol=1e-12)
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: name + text)
    assert shares.max() > 2 * shares.min(), "were all parts alike, a plain mean would do"


def test_the_order_of_rows_and_more_padding_change_nothing():
    """As above: the same sums in another order, in float64."""
    model, source, source_batch, batch = tiny_metarec()
    parameters = dict(model.named_parameters())

    def both(one, other):
        losses = model.source_loss(parameters, source, one), model.target_loss(parameters, other)
        return [value for loss in losses for value in (loss, *meta.gradients(loss, parameters).values())]

    expected = both(source_batch, batch)
    order = torch.tensor([2, 0, 3, 1])
    changed = [
        SequenceBatch(*(torch.nn.functional.pad(x[order], (0, 4)) for x in (one.inputs, one.targets)))
        for one in (source_batch, batch)
    ]
    torch.testing.assert_close(both(*changed), expected, rtol=1e-10, atol=1e-12)


# -- numbers of items and users ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renumbered(shop, tmp_path_factory):
    """The same domains with the lines of their files in another order: users and items get other numbers."""
    folder = tmp_path_factory.mktemp("renumbered")
    for name, seed in (("Target", 1), ("Near", 2), ("Far", 3)):
        head, *lines = (shop / name / f"{name}.inter").read_text().splitlines()
        random.Random(seed).shuffle(lines)
        (folder / name).mkdir()
        (folder / name / f"{name}.inter").write_text("\n".join([head, *lines]) + "\n")
    return folder


def order_of(names: list[str], other: list[str]) -> torch.Tensor:
    """int64 [n]: where what the second list has at each place stands in the first."""
    place = {name: number for number, name in enumerate(names)}
    return torch.tensor([place[name] for name in other])


def items_of(run: Run) -> list[str]:
    return [str(name) for name in run.dataset.id2token("item_id", range(run.dataset.item_num))]


def one_step(run: Run):
    """What the step of all events at once finds, in float64, and without anything that is drawn."""
    (interaction,) = run.train
    batch = run.model.batch_of(interaction)
    return run.trainer._one_step(batch, Streams("cpu", 1, "dropout"))


@pytest.mark.parametrize("model", ["LRURec", "MetaRec", "joint"])
def test_other_numbers_of_items_and_users_give_the_same(shop, renumbered, model):
    """In float64, where sums in another order are off by 1e-13 or so: nothing else may differ."""
    transfer = {} if model == "LRURec" else {"sources": ["Near", "Far"], "target_batch": "shared"}
    transfer |= {"meta_transfer": "joint"} if model == "joint" else {}
    name = "LRURec" if model == "LRURec" else "MetaRec"
    one, other = (
        made(folder, name, train_batch_size=10**6, dropout_prob=0.0, **transfer) for folder in (shop, renumbered)
    )
    order = order_of(items_of(one), items_of(other))
    assert not torch.equal(order, torch.arange(len(order))) and order[0] == 0
    by_item = ("item_embedding.weight", "item_bias")
    with torch.no_grad():
        one.model.item_bias[1:].normal_()
    weights = {key: value[order] if key in by_item else value for key, value in one.weights().items()}
    other.model.load_state_dict(weights)
    orders = []
    for run in (one, other):
        run.model.double()
        run.trainer._set_up(run.train)
        for side in run.trainer.sources:
            side.table.data, side.bias.data = side.table.data.double(), side.bias.data.double()
    for mine, its in zip(one.trainer.sources, other.trainer.sources, strict=True):
        names = [
            read_source_items(run.config, mine.name, folder)[1] for run, folder in ((one, shop), (other, renumbered))
        ]
        orders.append(order_of(*names))
        with torch.no_grad():
            mine.table[1:].normal_()
            its.table.copy_(mine.table[orders[-1]])
            codes = [nearest_codes(side.table, run.model.table, 2) for side, run in ((mine, one), (its, other))]
            assert torch.equal(order[codes[1]][1:], codes[0][orders[-1]][1:])
    steps = one_step(one), one_step(other)
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(steps[1].loss, steps[0].loss, **close)
    for key, value in steps[0].gradient.items():
        torch.testing.assert_close(steps[1].gradient[key], value[order] if key in by_item else value, **close)
        assert value.abs().max() > 1e-9, key
    assert steps[0].measured.keys() == steps[1].measured.keys()
    for key, value in steps[0].measured.items():
        torch.testing.assert_close(steps[1].measured[key], value, rtol=1e-6, atol=1e-9)
    for place, (mine, its) in enumerate(zip(steps[0].source_gradients, steps[1].source_gradients, strict=True)):
        for value, found in zip(mine, its, strict=True):
            torch.testing.assert_close(found, value[orders[place]], **close)
    ranks, results = [], []
    for run in (one, other):
        users = run.dataset.id2token("user_id", run.test._dataset.inter_feat["user_id"])
        ranks.append(dict(zip(users.tolist(), run.trainer.rank(run.test).tolist(), strict=True)))
        results.append(dict(run.trainer.evaluate(run.test, load_best_model=False)))
    assert list(ranks[0]) != list(ranks[1]) and ranks[0] == ranks[1]
    assert results[0] == pytest.approx(results[1], abs=1e-12)


# -- processes ---------------------------------------------------------------------------------------------------------


def test_runs_side_by_side_find_what_each_finds_alone(tmp_path, monkeypatch, forked_runs):
    """``--jobs 2`` against one after the other in this process: to the bit, where both have as many threads."""
    write_domain(tmp_path, "Target", cluster_histories(1, 50, 24, 4, 0.8))
    write_domain(tmp_path, "Near", cluster_histories(2, 60, 28, 4, 0.8))
    given = TINY | {"data_path": str(tmp_path), "sources": ["Near"], "epochs": 2, "device": "cpu"}
    given |= {"checkpoint_dir": str(tmp_path / "saved"), "state": "ERROR"}
    del given["seed"]
    plan = make_plan(competitors(["LRURec", "MetaRec"]), "Target", [7], given)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with RunStore(tmp_path / "runs.sqlite") as store:
        Runner(store, 2, lambda line: None).run(plan)
        side_by_side = store.results(plan)
        assert store.failures(plan) == []
    for run, found in zip(plan, side_by_side, strict=True):
        alone, _ = read_result(run, train(replace(run, folder=f"{run.folder}-alone")))
        ranks = [dict(zip(r.test_users.tolist(), r.test_ranks.tolist(), strict=True)) for r in (found, alone)]
        assert ranks[0] == ranks[1]
        assert (found.valid, found.test, found.parameters) == (alone.valid, alone.test, alone.parameters)
        epochs = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.history] for r in (found, alone)]
        assert epochs[0] == epochs[1] and len(epochs[0]) == 2
    assert os.environ["OMP_NUM_THREADS"]
