"""How a checkpoint says which network it holds: the name of its class and its sizes, as JSON.

Older checkpoints hold only RecBole's config. Their sizes are read from it here.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from recbole_metarec.errors import CheckpointError
from recbole_metarec.model.lru_network import LRUNetwork
from recbole_metarec.model.network import SequenceNetwork
from recbole_metarec.model.unisrec_network import UniSRecNetwork

NETWORKS = {network.__name__: network for network in (LRUNetwork, UniSRecNetwork)}
_LARGEST = 2**31 - 1

# model -> network, and the config key of each of its sizes, in checkpoints that lack "network"
_LRU = LRUNetwork, {"width": "embedding_size", "n_layers": "n_layers", "longest": "MAX_ITEM_LIST_LENGTH"}
_BEFORE = {
    "LRURec": _LRU,
    "MetaRec": _LRU,
    "UniSRec": (
        UniSRecNetwork,
        {
            **_LRU[1],
            "text_width": "text_width",
            "n_heads": "n_heads",
            "experts": "adaptor_experts",
            "with_ids": "item_vectors",
            "temperature": "score_temperature",
        },
    ),
}


def network_to_json(model: SequenceNetwork) -> str | None:
    """The network that serves a model, as JSON: the ``network`` of its own class, with its sizes.

    None if that class itself names none: a subclass may compute other scores than the class that it inherits from.
    """
    network = vars(type(model)).get("network")
    if network is None:
        return None
    return json.dumps({"name": network.__name__, "sizes": model.deployed_sizes()})


def names_network(content: Mapping) -> bool:
    """Whether a checkpoint, with a config in JSON, says which network serves it."""
    if "network" in content:
        return content["network"] is not None
    return json.loads(content["config"]).get("model") in tuple(_BEFORE)


def network_maker(content: Mapping, file: str | Path) -> Callable[[], SequenceNetwork]:
    """A function that makes the network named in a checkpoint, with new weights. Raises CheckpointError."""
    try:
        if "network" in content:
            network, sizes = _named(content["network"], file)
        else:
            network, sizes = _of_config(content["config"], len(content["items"]))
        _check_sizes(network, sizes)
        if sizes["n_layers"] > len(content["state_dict"]):
            raise ValueError(f"n_layers is {sizes['n_layers']}, which are not in the file")
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f" ({error})" if type(error) is ValueError else ""
        raise CheckpointError(f"{file}: does not say what network it holds{what}; train again") from error
    if sizes["n_items"] != len(content["items"]):
        raise CheckpointError(f"{file}: {len(content['items'])} items for {sizes['n_items']} rows; train again")
    return lambda: network(**sizes)


def _named(text: str, file) -> tuple[type[SequenceNetwork], dict]:
    described = json.loads(text)
    name, sizes = described["name"], described["sizes"]
    if name not in NETWORKS:
        raise CheckpointError(f"{file}: {name!r} is not one of the networks {', '.join(NETWORKS)}; train again")
    return NETWORKS[name], dict(sizes)


def _of_config(text: str, n_items: int) -> tuple[type[SequenceNetwork], dict]:
    saved = json.loads(text)
    values = saved["values"]
    network, keys = _BEFORE[saved["model"]]
    sizes = {"n_items": n_items, **{size: values[key] for size, key in keys.items()}}
    if "with_ids" in sizes:
        sizes["with_ids"] = sizes["with_ids"] == "text_and_id"
    return network, sizes


def _check_sizes(network: type[SequenceNetwork], sizes: dict) -> None:
    """Raises TypeError for a missing or unknown size, and ValueError for one of another type or out of range."""
    inspect.signature(network).bind(**sizes)
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(network).parameters.items()}
    for name, value in sizes.items():
        kind = type(value) if kinds[name] is float and type(value) is int else kinds[name]
        if type(value) is not kind or (kind is not bool and not 0 < value <= _LARGEST):  # false for NaN, too
            raise ValueError(f"{name} is {value!r}")
