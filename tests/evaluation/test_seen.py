"""What counts as seen: the whole history before the held-out event, for every loader; a repeat is then missed."""

import numpy as np
import pytest
import torch
from support.item_worlds import OF_MODEL, ONE_LAYER, TRIMMED
from support.worlds import write_domain

import recbole_metarec  # noqa: F401  (mends recbole, which could not be imported before it)

# isort: split
from recbole.data.dataset import SequentialDataset
from recbole.utils import get_model

from recbole_metarec.config.models import model_spec
from recbole_metarec.config.run_config import RunConfig
from recbole_metarec.evaluation.ranking import rank_both
from recbole_metarec.evaluation.seen import SeenItems
from recbole_metarec.plugin.baselines import load_data
from recbole_metarec.plugin.config import read_dataset, recbole_config, split_dataset

# of three events, of four, a repeat as the target of both parts, longer than L = 3, nothing seen but the targets
HISTORIES = [[1, 2, 3], [4, 5, 6, 7], [1, 2, 3, 4, 2, 1], [9, 8, 7, 6, 5, 4, 3, 2, 1, 10], [2, 2, 2, 2], [1, 2], [5]]
L = 3


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_domain(folder, "Target", HISTORIES)
    kinds = "".join(f"Target-{item}\tk{item % 3}\n" for item in range(1, 11))
    (folder / "Target" / "Target.item").write_text(f"item_id:token\tkind:token_seq\n{kinds}")
    return folder


def loaders_of(shop, model, **given):
    keys = {} if model_spec(model).is_ours else ONE_LAYER | OF_MODEL.get(model, {})
    keys |= {"MAX_ITEM_LIST_LENGTH": L, "topk": [3], "valid_metric": "NDCG@3", "data_path": str(shop)} | given
    config = recbole_config(RunConfig.read(model, "Target", (), keys))
    if model_spec(model).is_ours:
        return config, split_dataset(config, read_dataset(config))
    return config, load_data(config)


def named(seen: SeenItems, part) -> dict[int, set[int]]:
    """By user the items that its row has seen, as the histories above number them."""
    feat, found = part.inter_feat, {}
    for row, user in enumerate(part.id2token("user_id", feat["user_id"].numpy())):
        _, items = seen.of_rows(np.array([row]))
        assert len(set(items.tolist())) == len(items)
        tokens = np.atleast_1d(part.id2token("item_id", items)) if len(items) else []
        found[int(user.rpartition("u")[2])] = {int(token.rpartition("-")[2]) for token in tokens}
    return found


@pytest.mark.parametrize("longest", [2, L, 50])
@pytest.mark.parametrize("model", ["LRURec", "SASRec", "BERT4Rec", "STAMP"])
def test_seen_is_the_whole_history_before_the_held_out_item_whoever_reads_it(shop, model, longest):
    mask = {"mask_ratio": 0.5} if model == "BERT4Rec" else {}
    _, (train, valid, test) = loaders_of(shop, model, MAX_ITEM_LIST_LENGTH=longest, **mask)
    assert (type(train.dataset) is SequentialDataset) == (model == "STAMP"), "RecBole's own loader"
    found = valid.dataset.seen, test.dataset.seen
    for seen, part, held_out, shortest in ((found[0], valid, 2, 4), (found[1], test, 1, 3)):
        expected = {
            user: set(history[:-held_out]) for user, history in enumerate(HISTORIES) if len(history) >= shortest
        }
        assert named(seen, part.dataset) == expected
    assert expected[2] == {1, 2, 3, 4} and expected[3] == set(range(1, 10)) and expected[4] == {2}


def test_rows_come_back_in_any_order_and_number():
    """Against sets; users without events, and items seen twice."""
    random = np.random.default_rng(4)
    users, items = random.integers(1, 9, 60), random.integers(1, 12, 60)
    row_users = random.permutation(12)
    seen = SeenItems.of(users, items, row_users)
    expected = [set(items[users == user].tolist()) for user in row_users]
    for rows in (np.arange(12), np.array([5, 0, 11]), np.array([7]), np.array([], dtype=np.int64)):
        positions, found = seen.of_rows(rows)
        assert sorted(zip(positions.tolist(), found.tolist())) == [
            (position, item) for position, row in enumerate(rows) for item in sorted(expected[row])
        ]
    empty = SeenItems.of(users[:0], items[:0], row_users)
    assert len(empty.items) == 0 and empty.offsets.tolist() == [0] * 13


@pytest.mark.parametrize("model", [*TRIMMED, "STAMP", "LRURec"])
def test_every_model_is_ranked_as_if_the_seen_items_were_struck_out_of_its_scores(shop, model):
    mask = {"mask_ratio": 0.5} if model == "BERT4Rec" else {}
    config, (train, valid, test) = loaders_of(shop, model, **mask)
    net = get_model(model)(config, train.dataset)
    for weights in net.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    seen = valid.dataset.seen, test.dataset.seen
    for loader, own in zip((valid, test), seen):
        kept, removed = rank_both(net, loader, own, torch.device("cpu"))
        for row in range(len(kept)):
            rows, _, _, targets = loader.collate_fn(np.array([row]))
            with torch.no_grad():
                scores = net.full_sort_predict(rows).flatten()
            target = targets.item()
            own_items = set(own.of_rows(np.array([row]))[1].tolist())
            if target in own_items:
                assert removed[row] == len(scores)
                continue
            rivals = set(range(1, len(scores))) - {target} - own_items
            # the same row scored alone may differ by rounding
            low = 1 + sum(bool(scores[item] > scores[target] + 1e-5) for item in rivals)
            high = 1 + sum(bool(scores[item] >= scores[target] - 1e-5) for item in rivals)
            assert low <= removed[row] <= high and removed[row] <= kept[row]
