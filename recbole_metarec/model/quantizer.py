"""Multi-head vector quantization of source items with the target's item table as codebook (MetaRec, section 3).

Only tensors, no recommender framework. Letters: U source items, n_t target items (row 0 is padding and never a code),
d width, H heads; head h of a vector is its h-th slice of d / H numbers. Quantization adds no parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_DISTANCES_PER_CHUNK = 1 << 19  # 2 MiB of float32: the distances of a chunk stay in cache
_BLOCK = 128


@dataclass(frozen=True)
class Quantized:
    """Source vectors after quantization.

    vectors: [U, d], what the encoder reads; its gradient follows ``codebook_gradient``.
    codes: int64 [U, H], target rows 1 .. n_t - 1.
    codebook_loss, commitment_loss: scalars, means over items and dimensions (MetaRec's VQ loss, unweighted).
    """

    vectors: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


@torch.no_grad()
def nearest_codes(vectors: Tensor, table: Tensor, n_heads: int, candidates: Tensor | None = None) -> Tensor:
    """The closest target item (squared Euclidean distance) for each head of each source vector.

    vectors [U, d], table [n_t, d]. candidates int64 [K], ascending: the target rows that may be codes (None: all but
    padding). Returns int64 [U, H]; of ties the smallest item id. Never holds U x n_t distances.
    Raises ValueError if d is not a multiple of ``n_heads``.
    """
    if vectors.shape[1] % n_heads:
        raise ValueError(f"{n_heads} heads do not divide the width {vectors.shape[1]}")
    codebook = table[1:] if candidates is None else table[candidates]
    codes = torch.empty(len(vectors), n_heads, dtype=torch.int64, device=vectors.device)
    rows = max(1, _DISTANCES_PER_CHUNK // len(codebook))
    pairs = zip(vectors.chunk(n_heads, dim=1), codebook.chunk(n_heads, dim=1), strict=True)
    for head, (slices, entries) in enumerate(pairs):
        # half the squared distance, less the vector's norm, which leaves the order alone: one matrix product
        extended = _whole_blocks(torch.cat([-entries, 0.5 * entries.square().sum(dim=1, keepdim=True)], dim=1))
        slices = F.pad(slices, (0, 1), value=1.0)
        for start in range(0, len(slices), rows):
            part = slice(start, start + rows)
            codes[part, head] = _first_smallest(slices[part] @ extended.t())
    codes.clamp_(max=len(codebook) - 1)  # a vector that is not finite may have hit filler; its loss will show it
    return codes + 1 if candidates is None else candidates[codes]


def _whole_blocks(extended: Tensor) -> Tensor:
    """Pads [K, d / H + 1] to whole blocks with entries that are infinitely far from everything."""
    filled = F.pad(extended, (0, 0, 0, -len(extended) % _BLOCK))
    filled[len(extended) :, -1] = float("inf")
    return filled


def _first_smallest(distances: Tensor) -> Tensor:
    """argmin of each row of distances [U, K], K a multiple of the block size: int64 [U], the first of equal ones.

    ``amin`` is vectorised and ``argmin`` is not: ``argmin`` runs over one number per block, then over one block only.
    """
    blocks = distances.unflatten(1, (-1, _BLOCK))
    block = blocks.amin(dim=2).argmin(dim=1)
    within = blocks[torch.arange(len(blocks), device=blocks.device), block]
    return block * _BLOCK + within.argmin(dim=1)


def gather_codes(table: Tensor, codes: Tensor) -> Tensor:
    """Concatenates the chosen slices: table [n_t, d], codes int64 [U, H]. Returns [U, d]."""
    n_heads = codes.shape[1]
    slices = table.reshape(len(table) * n_heads, -1)  # [n_t * H, d / H], the heads of a row side by side
    rows = codes * n_heads + torch.arange(n_heads, device=codes.device)
    return F.embedding(rows, slices).flatten(1)


def straight_through(vectors: Tensor, chosen: Tensor, into_codebook: bool) -> Tensor:
    """The value of ``chosen`` with gradient 1 to ``vectors``, and with ``into_codebook`` also to ``chosen``.

    vectors, chosen [U, d]. Returns [U, d].
    """
    kept = chosen if into_codebook else chosen.detach()
    return kept + (vectors - vectors.detach())


def quantize(
    vectors: Tensor, table: Tensor, n_heads: int, codebook_gradient: str, candidates: Tensor | None = None
) -> Quantized:
    """Replaces each head of each source vector by the nearest target slice.

    vectors [U, d]: source items. table [n_t, d]: target items. codebook_gradient: with ``both`` the task's gradient
    reaches the chosen slices and the vectors, with ``loss`` only the codebook loss moves the slices.
    """
    codes = nearest_codes(vectors.detach(), table.detach(), n_heads, candidates)
    chosen = gather_codes(table, codes)
    return Quantized(
        vectors=straight_through(vectors, chosen, into_codebook=codebook_gradient == "both"),
        codes=codes,
        codebook_loss=(chosen - vectors.detach()).square().mean(),
        commitment_loss=(vectors - chosen.detach()).square().mean(),
    )


@dataclass(frozen=True)
class CodebookUse:
    """How a source uses the codebook.

    usage: share of used codes, of min(candidate codes, n_i - 1), mean over heads. perplexity: exp of the entropy of the
    codes, mean over heads. error: squared distance of an item to its codes, mean over items and dimensions. collisions:
    share of items whose H codes are all the same as those of another item.
    """

    usage: float
    perplexity: float
    error: float
    collisions: float


@torch.no_grad()
def codebook_use(vectors: Tensor, table: Tensor, n_heads: int, candidates: Tensor | None = None) -> CodebookUse:
    """Measures a whole source table: vectors [n_i - 1, d] without padding, table [n_t, d]."""
    codes = nearest_codes(vectors, table, n_heads, candidates)
    n_codes = len(table) - 1 if candidates is None else len(candidates)
    used, perplexity = 0.0, 0.0
    for head in codes.unbind(dim=1):
        counts = torch.bincount(head).to(torch.float64)
        shares = counts[counts > 0] / counts.sum()
        used += len(shares) / min(n_codes, len(vectors)) / n_heads
        perplexity += float(torch.exp(-(shares * shares.log()).sum())) / n_heads
    _, counts = torch.unique(codes, dim=0, return_counts=True)
    alone = int((counts == 1).sum())
    error = float((vectors - gather_codes(table, codes)).square().mean())
    return CodebookUse(used, perplexity, error, 1.0 - alone / len(vectors))
