"""Every model of this package that has a network, with and without texts, and one that a user registers: all tiny.

A model that is added to ``SHIPPED_SPECS`` is among them at once.
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from support.tiny import FIELDS
from support.worlds import PLAIN

from recbole_metarec.config.models import SHIPPED_SPECS, model_spec, register_model
from recbole_metarec.config.schema import default_values
from recbole_metarec.data.sequences import SequenceStore
from recbole_metarec.model.lrurec import LRURec

N_ITEMS = 12
_SIZES = {"embedding_size": 8, "n_layers": 2, "vq_heads": 2, "text_width": 6, "adaptor_experts": 3}
_TEXTS = {  # what ModelSpec.texts says -> the ways to use them
    "none": {"": {}},
    "optional": {
        "": PLAIN,
        " with texts": {"text_alignment": True, **PLAIN},
        " with memory": {"item_memory": True, "seen_offset": True},
        " with texts and memory": {"text_alignment": True, "item_memory": True, "seen_offset": True},
    },
    "required": {" of texts alone": {"item_vectors": "text"}, " of texts and ids": {"item_vectors": "text_and_id"}},
}


class Sharpened(LRURec):
    """A user's model: LRURec whose scores are multiplied by a key of its own, so that no network of ours serves it."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.sharpness = config["sharpness"]

    def score(self, states):
        """Scores [B, n_items] of states [B, d]."""
        return self.sharpness * super().score(states)

    def score_of(self, states, items):
        """Scores [B] of one item int64 [B] for each of the states [B, d]."""
        return self.sharpness * super().score_of(states, items)


def register_users_model():
    """Makes :class:`Sharpened` known; whoever calls this forgets it afterwards."""
    return register_model(Sharpened, defaults={"sharpness": 2.5})


class Case(NamedTuple):
    """A model's name, how it uses texts, and the keys that make it do so."""

    model: str
    texts: str
    keys: dict

    def __str__(self):
        return self.model + self.texts

    @property
    def is_served(self) -> bool:
        """Whether a network of this package answers for it without RecBole."""
        return self.model != Sharpened.__name__


_KINDS = [
    *((spec.name, spec.texts) for spec in SHIPPED_SPECS if spec.is_ours and not spec.is_fitted),
    (Sharpened.__name__, "optional"),
]
_ALL = {"text_alignment": True, "item_memory": True, "seen_offset": True, "memory_form": "network"}
FULLEST = Case("LRURec", " with all that a memory may have", _ALL)
CASES = [Case(name, how, keys) for name, texts in _KINDS for how, keys in _TEXTS[texts].items()]


def config_of(case: Case, **given) -> dict:
    """The model's defaults with tiny sizes, and what RecBole adds; ``given`` wins."""
    return default_values(case.model) | FIELDS | _SIZES | case.keys | given


def make_model(case: Case, **given):
    """The model of 12 items in float64, evaluating, with weights and texts large enough for every term to count."""
    users, items = np.repeat(np.arange(1, 7), 8), np.random.default_rng(4).integers(1, N_ITEMS, 48)
    store = SequenceStore.from_events(users, items, N_ITEMS)
    dataset = SimpleNamespace(num=lambda field: N_ITEMS, store=store, trained=store.lengths)
    model = model_spec(case.model).load_model()(config_of(case, **given), dataset).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        for name, table in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith(("texts", "text_vectors")):
                table[1:].normal_()
            if name in ("item_embedding.weight", "item_bias"):
                table[0] = 0.0
            if name == "lru_share":  # both experts count
                table.fill_(0.4)
    return model.eval()
