"""What a GPU would refuse or wait for, seen without one: see support/pretended_gpu.py."""

import pytest
import torch
from support.pretended_gpu import GPU, Mixed, pretended_gpu
from support.worlds import TINY, Run, cluster_histories, write_domain, write_shop
from torch.nn import functional as F

from recbole_metarec.evaluation.best import best_items
from recbole_metarec.model.metarec import MetaRec
from recbole_metarec.randomness import Streams

MEMORY = {"item_memory": True, "seen_offset": True, "memory_neighbours": 6}
WAYS = {
    "LRURec": ("LRURec", MEMORY),
    "LRURec, sampled": ("LRURec", {"target_negatives": 6}),
    "MetaRec": ("MetaRec", MEMORY | {"source_weight": 0.5, "learn_inner_learning_rate": 0.05}),
    "MetaRec, exact": ("MetaRec", {"second_order": True, "source_negatives": 6, "similarity_at": "phi"}),
    "joint": ("MetaRec", MEMORY | {"meta_transfer": "joint"}),
    "published LRURec": ("LRURec", {}),
    "published MetaRec": ("MetaRec", {}),
    "seven sources": ("MetaRec", MEMORY),
    "published, seven sources": ("MetaRec", {}),
}
SEVEN = ["Near", "Far", *(f"More{number}" for number in range(5))]
# kernels and waits of a step, which are a GPU's time where they are small
CEILINGS = {
    "MetaRec": (2350, 3), "joint": (1360, 4), "published MetaRec": (1090, 3), "MetaRec, exact": (1800, 5),
    "LRURec": (400, 1), "published LRURec": (190, 1), "LRURec, sampled": (220, 4),
    "seven sources": (5500, 3), "published, seven sources": (2250, 3),
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = write_shop(tmp_path_factory.mktemp("domains"))
    for number, name in enumerate(SEVEN[2:]):
        write_domain(folder, name, cluster_histories(10 + number, 40, 20, 4, 0.5))
    return folder


def on_gpu(shop, name: str, **more) -> Run:
    model, given = WAYS[name]
    keys = {key: value for key, value in TINY.items() if model == "MetaRec" or key != "vq_heads"}
    sources = {"sources": SEVEN if "seven" in name else SEVEN[:2]} if model == "MetaRec" else {}
    made = Run(shop, model, **keys | sources | given | more | {"epochs": 1})
    made.config.final_config_dict["device"] = torch.device("cuda")
    made.model.to("cuda")
    made.trainer = type(made.trainer)(made.config, made.model)
    return made


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu() as counts:
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert there.device == GPU and there.is_cuda and (there + 1).is_cuda and there[1:].is_cuda and not here.is_cuda
        assert not there.cpu().is_cuda and here.to("cuda").is_cuda and (there * torch.tensor(2.0)).is_cuda
        for mixed in (lambda: here + there, lambda: torch.cat([here, there]), there.numpy, lambda: here[there.long()]):
            with pytest.raises(Mixed):
                mixed()
        with pytest.raises(Mixed):
            torch.rand(2, device="cuda", generator=torch.Generator("cpu"))
        before = counts.waits.total()
        assert float(there.sum()) == 3 and there.nonzero().is_cuda and len(there[there > 0]) == 3
        assert counts.waits.total() == before + 3  # a number, a shape, and a mask, which asks for a shape
        parameter = torch.nn.Parameter(there)
        kernels = counts.kernels.total()
        (parameter * 2).sum().backward()
        assert parameter.grad.is_cuda and counts.kernels.total() >= kernels + 4


@pytest.mark.parametrize("name", list(WAYS)[:5])
def test_training_evaluating_and_serving_mix_no_devices(shop, name):
    with pretended_gpu():
        made = on_gpu(shop, name)
        made.fit(saved=True)
        assert made.trainer.evaluate(made.test)
        assert all(parameter.is_cuda for parameter in made.model.parameters())
        store = made.train.dataset.store
        made.model.eval()
        assert sum(len(best.items) for best in best_items(made.model, store, 3, False, torch.device("cuda"))) > 0
        state, memory = made.model.memory_of([1, 2, 3])
        state, _ = made.model.next_memory(memory, 4)
        assert made.model.score(state).is_cuda


class OwnLosses(MetaRec):
    """Each loss reads its batch beside what MetaRec reads of it."""

    def target_loss(self, parameters, batch, *rest, **given):
        mine = F.embedding(batch.inputs, parameters["item_embedding.weight"]).square().mean()
        return super().target_loss(parameters, batch, *rest, **given) + mine

    def source_loss(self, parameters, source, batch, *rest, **given):
        mine = F.embedding(batch.inputs, source.table).square().mean()
        return super().source_loss(parameters, source, batch, *rest, **given) + mine


@pytest.mark.parametrize("transfer", ["meta", "joint", "none"])
def test_losses_of_a_subclass_read_their_batch_on_the_gpu(shop, transfer):
    with pretended_gpu():
        made = on_gpu(shop, "published MetaRec", meta_transfer=transfer)
        made.model.__class__ = OwnLosses
        made.fit(saved=False)
        assert made.trainer.steps_done


@pytest.mark.parametrize("name", CEILINGS)
def test_a_step_starts_and_waits_for_no_more_kernels_than_it_did(shop, name):
    kernels, waits = CEILINGS[name]
    with pretended_gpu() as counts:
        made = on_gpu(shop, name)
        made.trainer._set_up(made.train)
        streams, found = Streams(made.trainer.device, 1, "dropout", 0), []
        for interaction in list(made.train)[:3]:
            batch = made.model.batch_of(interaction)
            before = counts.kernels.total(), counts.waits.total()
            made.trainer._apply(made.trainer._one_step(batch, streams), 0)
            found.append((counts.kernels.total() - before[0], counts.waits.total() - before[1]))
    assert found[-1][0] <= kernels and found[-1][1] <= waits, (found, counts.waits.most_common(20))
