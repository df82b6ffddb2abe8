"""A learned offset for items that are already in the history: whether, and how soon, people come back to an item."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_metarec.data.repeats import LAG_STARTS
from recbole_metarec.model.losses import Offsets, Places


class SeenPlaces(NamedTuple):
    """The items of each row's history. group: int64 [E], the group of lags that the latest lag of each falls into."""

    places: Places
    group: Tensor


class SeenOffset(nn.Module):
    """Adds to the logit of each item in the history a rho that depends on the item's most recent lag.

    start: initial value of every rho. lift_weight: initial factor of a domain's
    :func:`~recbole_metarec.data.repeats.repeat_lift`, which is added to rho, so that the same numbers serve a domain
    where people come back and one where they do not; None reads no lift.
    """

    def __init__(self, start: float = 0.0, lift_weight: float | None = None):
        super().__init__()
        self.by_lag = nn.Parameter(torch.full((len(LAG_STARTS),), start))
        self.lift_weight = None if lift_weight is None else nn.Parameter(torch.tensor(lift_weight))

    def forward(self, seen: SeenPlaces) -> Offsets:
        """The offsets of the items of each row's history."""
        return Offsets(seen.places, self.values(seen.group))

    def values(self, group: Tensor, lift: Tensor | None = None) -> Tensor:
        """Offsets [E] of lags in these groups, int64 [E], in a domain with this lift, float [G]."""
        return (self.by_lag if lift is None else self.by_lag + self.lift_weight * lift)[group]


def seen_places(inputs: Tensor, positions: Tensor, targets: Tensor | None = None) -> SeenPlaces:
    """The items of ``inputs`` int64 [B, W] up to each of the flat ``positions`` int64 [R], ascending. targets: int64
    [R], the item that each of these R rows is to predict."""
    n = 1 + int(max(inputs.max(), 0 if targets is None else targets.max()))
    keys, lags = seen_items(inputs, positions, n)
    group = torch.bucketize(lags, lags.new_tensor(LAG_STARTS[1:]), right=True)
    return SeenPlaces(Places.of(keys, n, len(positions), targets), group)


def seen_items(inputs: Tensor, positions: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """Each row's distinct items up to its position, and the most recent lag of each.

    Returns ascending keys row * n_items + item, int64 [E], and lags int64 [E].
    """
    width = inputs.shape[1]
    items = up_to(inputs, positions, width)
    row, lag = items.nonzero(as_tuple=True)
    keys, inverse = torch.unique(row * n_items + items[row, lag], return_inverse=True)
    lags = torch.full_like(keys, width).scatter_reduce(0, inverse, lag, "amin")
    return keys, lags


def up_to(inputs: Tensor, positions: Tensor, most: int) -> Tensor:
    """The items up to each of the flat ``positions`` [R] of ``inputs`` [B, L], latest first: int64 [R, most] or 0."""
    back = torch.arange(most, device=inputs.device)
    column = (positions % inputs.shape[1])[:, None] - back
    return torch.where(column >= 0, inputs.flatten()[(positions[:, None] - back).clamp(min=0)], 0)
