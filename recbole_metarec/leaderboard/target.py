"""What a report says of the target that all models shared: its size, the protocol, and groups of its test users."""

from collections.abc import Mapping

import numpy as np
from recbole.data import create_dataset

from recbole_metarec.building import build_config
from recbole_metarec.leaderboard.comparison import Protocol
from recbole_metarec.leaderboard.models import WITHOUT_TRANSFER
from recbole_metarec.leaderboard.segments import Segment, segments


def describe(dataset: str, overrides: Mapping) -> tuple[Protocol, tuple[Segment, ...], np.ndarray]:
    """(protocol, segments, the tokens of the test users whom their masks are over) as LRURec's run has them.

    overrides: config keys of that run. Raises MetaRecError for a mistake in them or in the data.
    """
    config = build_config(WITHOUT_TRANSFER, dataset, (), dict(overrides))
    data = create_dataset(config)
    train, _, test = data.build()
    users, items = (test.inter_feat[field].numpy() for field in (test.uid_field, test.iid_field))
    rows = np.searchsorted(train.store.users, users)
    counts = np.bincount(train.inter_feat[train.iid_field].numpy(), minlength=train.item_num)
    protocol = Protocol(
        dataset=dataset,
        users=data.user_num - 1,
        items=data.item_num - 1,
        interactions=len(data.store.items),
        split="leave-one-out in time order, whole catalogue ranked",
        metric=f"{config['valid_metric']} on validation chooses, test is looked at once",
        max_length=config["MAX_ITEM_LIST_LENGTH"],
        width=config["embedding_size"],
        early_stopping=f"{config['stopping_step']} validations without a better one, at most {config['epochs']} epochs",
    )
    groups = segments(train.trained[rows], counts, items)
    return protocol, groups, np.asarray(test.id2token(test.uid_field, users), dtype=str)
