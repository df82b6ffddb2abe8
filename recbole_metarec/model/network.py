"""The interface of every network of this package, whatever trains it. Letters: B batch, L length, d width."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

Memory = tuple[Tensor, ...]
_Made = TypeVar("_Made")


class SequenceNetwork(nn.Module):
    """A history of items in, a score of every item out. A subclass defines the methods that raise here.

    n_items: catalogue size; row 0 is padding. longest: how many of a history's latest events are read at most.
    users: name -> number of each known user, if scores depend on who asks. The ``forward`` of such a network also takes
    these numbers, int64 [B], 0 for an unknown user.
    """

    users: Mapping[str, int] = MappingProxyType({})
    _kept = None

    def __init__(self, n_items: int, longest: int):
        nn.Module.__init__(self)  # not super(): in a RecBole model RecBole's class, which wants a config, comes next
        self.n_items, self.longest = n_items, longest

    # -- scores ------------------------------------------------------------------------------------------------

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State of each user after its last event: int64 [B, L] padded on the right, int64 [B]. Returns [B, d]."""
        raise NotImplementedError

    def score(self, states: Tensor) -> Tensor:
        """Score of every item, padding included: states [B, d] to [B, n_items]."""
        raise NotImplementedError

    def score_of(self, states: Tensor, items: Tensor) -> Tensor:
        """Score of one item for each state: [B, d], int64 [B] to [B]."""
        raise NotImplementedError

    # -- one user, event by event ------------------------------------------------------------------------------

    def first_memory(self) -> Memory:
        """What is remembered of a user without events."""
        raise NotImplementedError

    def next_memory(self, memory: Memory, item: int) -> tuple[Tensor, Memory]:
        """One more event: (state [1, d], what is remembered now)."""
        raise NotImplementedError

    def memory_of(self, history: list[int]) -> tuple[Tensor, Memory]:
        """As :meth:`next_memory` after the last event of a history, not empty, which is read in one pass."""
        raise NotImplementedError

    # -- what is saved -----------------------------------------------------------------------------------------

    def deployed_sizes(self) -> dict[str, int | float | bool]:
        """The arguments of the constructor of the network that serves, by name."""
        raise NotImplementedError

    def deployed_weights(self) -> dict[str, Tensor]:
        """The weights of the network that serves."""
        return self.state_dict()

    def completed(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of this network from those that :meth:`deployed_weights` has returned."""
        return weights

    # -- what is computed from the weights once, while they stay the same ----------------------------------------

    def kept(self, make: Callable[[], _Made]) -> _Made:
        """What ``make`` computes for all items. Kept while no weight moves: it costs more than a user's state."""
        if self._kept is not None and not torch.is_grad_enabled():
            return self._kept
        made = make()
        if not self.training and not torch.is_grad_enabled():
            self._kept = made
        return made

    def train(self, mode: bool = True):
        """Forgets what was kept."""
        self._kept = None
        return super().train(mode)

    def load_state_dict(self, *args, **kwargs):
        """Forgets what was kept."""
        self._kept = None
        return super().load_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs):
        """PyTorch's hook for another device or dtype; forgets what was kept."""
        self._kept = None
        return super()._apply(*args, **kwargs)
