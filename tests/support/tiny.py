"""Models of eight numbers per item in float64, MetaRec with one source and UniSRec; batches; one step of training."""

import math
from types import SimpleNamespace

import torch

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole_metarec.config.schema import default_values
from recbole_metarec.model.metarec import MetaRec
from recbole_metarec.model.metarec_network import SourceBatch, SourceItems
from recbole_metarec.model.unisrec import UniSRec
from recbole_metarec.trainer import meta_step as meta
from recbole_metarec.trainer.transfer_state import TransferSettings, TransferState
from recbole_metarec.trainer.transfer_step import TransferStep

F64 = torch.float64
FIELDS = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list", "NEG_PREFIX": "neg_",
          "ITEM_LIST_LENGTH_FIELD": "item_length", "device": torch.device("cpu"), "seed": 1, "clip_grad_norm": None,
          "MAX_ITEM_LIST_LENGTH": 6}  # fmt: skip


def config_of(**given) -> dict:
    """The shipped defaults of MetaRec with tiny sizes, without the item memory and the offsets; ``given`` wins."""
    sizes = {"embedding_size": 8, "n_layers": 1, "dropout_prob": 0.0, "seen_offset": False, "item_memory": False}
    return default_values("MetaRec") | FIELDS | sizes | given


def tiny_metarec(n_target: int = 12, n_source: int = 10, **given):
    """(model, source items, a source batch, a target batch), weights large enough for every term to count."""
    model = MetaRec(config_of(**given), SimpleNamespace(num=lambda field: n_target)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
            elif parameter.abs().max() == 0:
                parameter.normal_(std=0.3)
        model.item_embedding.weight[0], model.item_bias[0] = 0.0, 0.0
    table = torch.randn(n_source, model.item_embedding.weight.shape[1], dtype=torch.float64) * 0.6
    table[0] = 0.0
    bias = torch.randn(n_source, dtype=torch.float64) * 0.3
    source = SourceItems(table.requires_grad_(), bias.requires_grad_())
    return model, source, random_batch(n_source), random_batch(n_target)


def tiny_unisrec(mode: str = "text_and_id", n_items: int = 12, **given) -> UniSRec:
    """With weights large enough for every term to count."""
    sizes = {"embedding_size": 8, "n_layers": 2, "text_width": 6, "adaptor_experts": 3}
    config = default_values("UniSRec") | FIELDS | sizes | {"item_vectors": mode} | given
    model = UniSRec(config, SimpleNamespace(num=lambda field: n_items)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        if mode == "text_and_id":
            model.item_embedding.weight[0] = 0.0
        model.texts[1:].normal_()
    return model.eval()


def random_batch(n_items: int, lengths=(5, 4, 2, 1)) -> SourceBatch:
    """Right-padded rows of the given lengths; the first input of row 1 carries no loss."""
    inputs, targets = (torch.zeros(len(lengths), max(lengths), dtype=torch.int64) for _ in range(2))
    for row, length in enumerate(lengths):
        items = torch.randint(1, n_items, (length + 1,))
        inputs[row, :length], targets[row, :length] = items[:-1], items[1:]
    targets[1, 0] = 0
    return SourceBatch(inputs, targets)


def rates(parameters, alpha, learned=False):
    """log(alpha) for each parameter."""
    return {name: torch.tensor(math.log(alpha), dtype=F64, requires_grad=learned) for name in parameters}


def meta_gradient(model, source, source_batches, target_batch, alpha, second_order, parameters):
    """(trial, outer) of one source, as the meta step makes them."""
    losses = [lambda phi, b=b: model.source_loss(phi, source, b, None, second_order) for b in source_batches]
    logs = rates(parameters, alpha)
    trial = trial_update(parameters, losses, (source.table, source.bias), logs, second_order)

    def target(phi):
        return model.target_loss(phi, target_batch, None, second_order)

    return trial, outer_gradient(trial, target, second_order)


def trial_update(parameters, losses, own, log_rates, second_order):
    """The trial updates of one source by its losses on K batches."""
    of_all = [lambda phis, loss=loss: [loss(phis[0])] for loss in losses]
    return meta.trial_updates(parameters, of_all, [own], log_rates, second_order)[0]


def outer_gradient(trial, target_loss, second_order):
    """Of one trial."""
    return meta.outer_gradients([trial], lambda phis: [target_loss(phis[0])], second_order)[0]


STEP_DEFAULTS = {
    "inner_steps": 1, "second_order": False, "target_batch": "shared", "gradient_rescaling": "similarity",
    "rescale_sign": "aligned", "similarity_at": "theta", "similarity_over": "encoder", "similarity_momentum": 0.9,
    "temperature": 0.05, "source_weight": 0.0, "diagnostics_every": 1,
}  # fmt: skip


class Side:
    """A source that gives prepared batches, as SourceSide does."""

    rows_only = False

    def __init__(self, name, items, batches):
        self.name, self.items, self.batches = name, items, list(batches)

    @property
    def tensors(self):
        return self.items.table, self.items.bias

    def next_batch(self):
        self.batches.append(self.batches.pop(0))
        return self.batches[-1]


def no_streams(*name):
    """Generators for shares; none for dropout, which the tiny model has not anyway."""
    return torch.Generator().manual_seed(hash(name) % 1000)


def step_on(model, sides, alpha=0.01, **given):
    parameters = dict(model.named_parameters())
    state = TransferState(rates(parameters, alpha), torch.zeros(len(sides), dtype=F64))
    return TransferStep(model, sides, TransferSettings(**(STEP_DEFAULTS | given)), state), parameters, state


def two_sides():
    """The tiny model, a source that is the target itself (its items raw), and one whose loss pulls elsewhere."""
    model, _, _, target_batch = tiny_metarec(vq_heads=0)
    table = model.item_embedding.weight.detach().clone().requires_grad_()
    bias = model.item_bias.detach().clone().requires_grad_()
    same = Side("same", SimpleNamespace(table=table, bias=bias, popularity=None), [target_batch])
    _, other_items, other_batch, _ = tiny_metarec(vq_heads=0)
    return model, same, Side("other", other_items, [other_batch]), target_batch
