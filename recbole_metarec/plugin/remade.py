"""Models that a file alone cannot serve, RecBole's own and those that are fitted, made again of the data it names."""

from pathlib import Path

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.nn import functional as F

from recbole_metarec.config.models import model_spec
from recbole_metarec.errors import CheckpointError, DataError
from recbole_metarec.model.network import Memory, SequenceNetwork
from recbole_metarec.plugin.baselines import load_data
from recbole_metarec.plugin.checkpoint_config import config_from_json, saved_model
from recbole_metarec.plugin.config import read_dataset, split_dataset

_HISTORY = "history"  # that a general recommender is given and does not read


class RemadeNetwork(SequenceNetwork):
    """A model of RecBole's as what serves: it is asked anew each time, a sequential one with the whole history."""

    def __init__(self, config, dataset, model):
        super().__init__(dataset.item_num, config["MAX_ITEM_LIST_LENGTH"])
        self.model = model
        spec = model_spec(config["model"])
        self.is_fitted, self.ignores_padding = spec.is_fitted, spec.is_fitted or spec.ignores_padding
        self.is_sequential = spec.kind == "sequential"
        self.users = {str(name): number for name, number in dataset.field2token_id[dataset.uid_field].items() if number}

    def forward(self, item_seq: Tensor, item_seq_len: Tensor, users: Tensor | None = None) -> dict[str, Tensor]:
        """What the model is asked with; without users the history is nobody's."""
        model = self.model
        if not self.ignores_padding:
            item_seq = F.pad(item_seq, (0, self.longest - item_seq.shape[1]))
        asked = {_HISTORY: item_seq}
        if self.is_sequential:
            asked = {model.ITEM_SEQ: item_seq, model.ITEM_SEQ_LEN: item_seq_len}
        return asked if users is None else asked | {model.USER_ID: users}

    def score(self, states: dict[str, Tensor]) -> Tensor:
        """Of every item, [B, n_items]. Raises DataError where the model knows users and was told of none."""
        asked = dict(states)
        count = len(next(iter(asked.values())))
        if self.is_fitted:
            asked.setdefault(self.model.USER_ID, torch.zeros_like(asked[self.model.ITEM_SEQ_LEN]))
        try:
            scores = self.model.full_sort_predict(Interaction(asked))
        except KeyError as error:
            name = type(self.model).__name__
            raise DataError(
                f"{name}: it reads {error} of the user, which a history does not have; name users of its data"
            ) from error
        return scores.view(count, -1)[:, : self.n_items]

    def first_memory(self) -> Memory:
        """The history, int64 [1, 0]."""
        return (torch.zeros(1, 0, dtype=torch.int64, device=self.model.device),)

    def next_memory(self, memory: Memory, item: int) -> tuple[dict[str, Tensor], Memory]:
        """One more event: (as :meth:`forward`, the history now)."""
        return self._read([*memory[0][0].tolist(), item])

    def memory_of(self, history: list[int]) -> tuple[dict[str, Tensor], Memory]:
        """After a whole history: (as :meth:`forward`, its latest items)."""
        return self._read(history)

    def _read(self, history: list[int]) -> tuple[dict[str, Tensor], Memory]:
        rows = torch.tensor([history[-self.longest :]], device=self.model.device)
        return self.forward(rows, torch.tensor([rows.shape[1]], device=rows.device)), (rows,)


def network_of(content: dict, file: str | Path, data_path: str | None = None) -> tuple[RemadeNetwork, list[str]]:
    """The network of a checkpoint, and the names of its items, padding first.

    data_path: the folder that holds the domain, if it is no longer where it was. Raises CheckpointError for a file
    that holds no such model, or for another one than its data now make; DataError if the data are not there.
    """
    try:
        config = config_from_json(content["config"], data_path, data_may_be_absent=False)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    is_ours = model_spec(config["model"]).is_ours
    train = (split_dataset(config, read_dataset(config)) if is_ours else load_data(config))[0].dataset
    model = saved_model(config, train, content, file)
    return RemadeNetwork(config, train, model), [str(name) for name in train.field2id_token[train.iid_field]]
