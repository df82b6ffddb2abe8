"""A small domain whose items have attributes, and settings under which RecBole's own models are small on it."""

from collections import Counter
from pathlib import Path

from support.worlds import cluster_histories, write_domain

from recbole_metarec.config.models import SHIPPED_SPECS

TRIMMED = [spec.name for spec in SHIPPED_SPECS if spec.ignores_padding]  # models that read no padding
ONE_LAYER = {
    "hidden_size": 8, "inner_size": 8, "n_heads": 2, "embedding_size": 8, "n_layers": 1, "train_batch_size": 32,
    "eval_batch_size": 20, "topk": [5, 10], "seed": 7, "state": "ERROR", "device": "cpu", "show_progress": False,
    "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0, "initializer_range": 0.5,
}  # fmt: skip
_ATTRIBUTES = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "kind"]}}
OF_MODEL = {
    **{model: _ATTRIBUTES | {"selected_features": ["kind"]} for model in ("FDSA", "SASRecF", "GRU4RecF")},
    "S3Rec": _ATTRIBUTES | {"item_attribute": "kind"},
    "BERT4Rec": {"mask_ratio": 0.3},
}


def write_shop_with_kinds(folder: Path) -> Path:
    """The domain Target: histories of two to twenty events, one or two kinds for each item."""
    histories = [*cluster_histories(1, 60, 24, 4, 0.8, length=(3, 20)), [1, 2], [3, 4, 5], [5, 6, 7, 8]]
    write_domain(folder, "Target", histories)
    kinds = [" ".join(f"k{k}" for k in sorted({item % 4, item % 3})) for item in range(24)]
    lines = [f"Target-{item}\t{kind}" for item, kind in enumerate(kinds)]
    (folder / "Target" / "Target.item").write_text("\n".join(["item_id:token\tkind:token_seq", *lines]) + "\n")
    return folder


def named_rows(loader) -> Counter:
    """(user, history, target) of every training row, by original name."""
    dataset = loader._dataset
    names = [dataset.id2token(field, range(dataset.num(field))) for field in ("user_id", "item_id")]
    return Counter(
        (names[0][user], tuple(names[1][history[:length]]), names[1][item])
        for batch in loader
        for user, history, length, item in zip(
            *(batch[key].numpy() for key in ("user_id", "item_id_list", "item_length", "item_id")), strict=True
        )
    )
