"""How deep lists of recommendations may be that a domain is measured by."""

from recbole_metarec.config.models import model_spec
from recbole_metarec.config.rules import LIST_MEASURES
from recbole_metarec.config.schema import key_table
from recbole_metarec.errors import ConfigError


def check_depth(dataset) -> None:
    """Raises ConfigError if ``topk`` asks for more items than there are: RecBole's evaluation would look them up.

    With the default, a model of this package and no measure of lists, it is a warning: every model finds all of them.
    """
    config, deepest, items = dataset.config, max(dataset.config["topk"]), dataset.item_num - 1
    if deepest <= items:
        return
    error = too_deep(config["topk"], config["dataset"], items)
    reads_lists = any(name.lower() in LIST_MEASURES for name in config["metrics"])
    is_default = list(config["topk"]) == key_table()["topk"].default
    if reads_lists or not is_default or not model_spec(config["model"]).is_ours:
        raise error
    told, _, _ = str(error).partition("; ")
    dataset.logger.warning(f"{told}, so every model has the right one among the first {deepest}")


def too_deep(topk, name: str, items: int) -> ConfigError:
    """The error of a ``topk`` beyond the items of a domain."""
    fitting = ",".join(str(depth) for depth in topk if depth <= items)
    fewer = f"--topk=[{fitting}]" if fitting else f"--topk=[{items}] --valid_metric=NDCG@{items}"
    return ConfigError(f"topk is {list(topk)}, but {name} has {items} items; ask for fewer, such as {fewer}")
