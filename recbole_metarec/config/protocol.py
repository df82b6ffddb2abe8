"""What a comparison holds equal, and which of its keys RecBole's own models read."""

import re

from recbole_metarec.config.schema import recbole_root

# What must be the same for every model that is compared.
PROTOCOL = (
    "MAX_ITEM_LIST_LENGTH",
    "load_col",
    "normalize_all",
    "train_neg_sample_args",
    "loss_type",
    "eval_args",
    "repeatable",
    "metrics",
    "topk",
    "valid_metric",
    "metric_decimal_place",
    "stopping_step",
)
TRAINING = (
    "epochs",
    "train_batch_size",
    "learner",
    "learning_rate",
    "weight_decay",
    "exact_time",
    "trust_pickle",
)


def keys_read_by(model: str) -> set[str]:
    """Keys of this package that a model of RecBole reads, too: the protocol's, and names that it has for its own."""
    file = recbole_root() / "properties" / "model" / f"{model}.yaml"
    own = re.findall(r"^(\w+)\s*:", file.read_text(encoding="utf-8"), re.MULTILINE) if file.exists() else ()
    return {*PROTOCOL, *TRAINING, *own}
