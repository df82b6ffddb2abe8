"""Linear recurrent units: the recurrence, its parallel scan, and the encoder made of them (LRURec, WSDM 2024).

Only tensors, no recommender framework. Letters: B batch, L length, d width, n = 2d state size.
Sequences are padded on the right: the recurrence is causal, so padding never reaches a real position, and
the output at ``length - 1`` summarises the history without any mask.
The weights may also be those of M encoders, [M, ...], for x [M, T, d] (:mod:`recbole_metarec.model.packing`).
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_metarec.model.packing import PackedDraws, Packing, packed_scan, packed_scan_reference
from recbole_metarec.randomness import RowsOf

Draws = torch.Generator | RowsOf | PackedDraws | None


def scan_reference(inputs: Tensor, eigenvalues: Tensor) -> Tensor:
    """h_k = eigenvalues * h_(k-1) + inputs_k with h_0 = 0, by operations that can be differentiated repeatedly.

    inputs complex [B, L, n], eigenvalues complex [n]. Returns complex [B, L, n].
    Recursive doubling: it multiplies by powers of the eigenvalues and never divides by one, so nothing overflows.
    """
    states, power, shift = inputs, eigenvalues, 1
    while shift < inputs.shape[1]:
        earlier = F.pad(states[:, :-shift], (0, 0, shift, 0))
        states = states + power * earlier
        power, shift = power * power, 2 * shift
    return states


def scan(inputs: Tensor, eigenvalues: Tensor) -> Tensor:
    """As :func:`scan_reference`, with a hand-written backward pass that keeps only the states: differentiable once."""
    return _Scan.apply(inputs, eigenvalues)


def _scan_in_place(states: Tensor, eigenvalues: Tensor, reverse: bool) -> Tensor:
    length = states.shape[1]
    if states.is_cuda:  # few large kernels beat L small ones
        power, shift = eigenvalues, 1
        while shift < length:
            earlier = states.clone()
            if reverse:
                states[:, :-shift].addcmul_(power, earlier[:, shift:])
            else:
                states[:, shift:].addcmul_(power, earlier[:, :-shift])
            power, shift = power * power, 2 * shift
        return states
    steps = range(length - 2, -1, -1) if reverse else range(1, length)
    before = 1 if reverse else -1
    for k in steps:
        states[:, k].addcmul_(eigenvalues, states[:, k + before])
    return states


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs: Tensor, eigenvalues: Tensor) -> Tensor:
        states = _scan_in_place(inputs.clone(), eigenvalues, reverse=False)
        ctx.save_for_backward(states, eigenvalues)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        states, eigenvalues = ctx.saved_tensors
        into_inputs = _scan_in_place(gradient.clone(), eigenvalues.conj().resolve_conj(), reverse=True)
        into_eigenvalues = (into_inputs[:, 1:] * states[:, :-1].conj()).sum(dim=(0, 1))
        return into_inputs, into_eigenvalues


def dropout(x: Tensor, probability: float, generator: Draws) -> Tensor:
    """Inverted dropout with a mask from the generator; without one (evaluation) x itself.

    Sixteen random bits decide each element, since a random float for each would cost more than the layer before. So the
    probability is exact to 2^-16, and the scale uses the probability that is really applied.
    """
    if generator is None or probability == 0.0:
        return x
    kept = min(max(round((1.0 - probability) * 65536), 1), 65535)
    bits = _random_bits(x.shape, x.device, generator)
    # kept - 32768 - bits is at least 1 where kept and at most 0 where dropped. A comparison would give the same, but
    # operations on booleans are not vectorised
    mask = torch.sub(kept - 32768, bits.to(x.dtype)).clamp_(0, 1).mul_(65536 / kept)
    return x * mask


def _random_bits(shape: torch.Size, device: torch.device, generator: torch.Generator | RowsOf | PackedDraws) -> Tensor:
    """Sixteen random bits for each element: int16."""
    if isinstance(generator, PackedDraws):
        each = zip(generator.generators, generator.shapes, strict=True)
        bits = [_random_bits(torch.Size((*size, shape[-1])), device, one) for one, size in each]
        return generator.packing.packed(bits)
    if isinstance(generator, RowsOf):
        whole = torch.Size((generator.count, *shape[1:]))
        return _random_bits(whole, device, generator.generator)[generator.rows]
    count = shape.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:count].view(shape)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ``F.linear``, or with M weights for x [M, T, d]."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def _normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """As ``norm``, or with M weights for x [M, T, d]."""
    if norm.weight.dim() == 1:
        return norm(x)
    # a weight of ones: without one, PyTorch's second derivative creates a tensor on no known device
    scaled = F.layer_norm(x, norm.normalized_shape, norm.weight.new_ones(norm.normalized_shape), eps=norm.eps)
    return torch.addcmul(norm.bias[:, None], scaled, norm.weight[:, None])


class LinearRecurrence(nn.Module):
    """y_k = Re(C h_k + c), h_k = lambda * h_(k-1) + gamma * (B x_k + b), lambda = exp(-e^nu + i e^omega).

    The modulus of lambda stays below 1 whatever the optimiser does to nu and omega. B and C are complex maps stored as
    real matrices, with the real and imaginary part of each state side by side. r_min, r_max: bounds of the modulus at
    the start.
    """

    def __init__(self, width: int, r_min: float, r_max: float):
        super().__init__()
        n = 2 * width
        squared_radius = torch.empty(n).uniform_(r_min**2, r_max**2)
        phase = torch.empty(n).uniform_(1e-6, 2 * math.pi)
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(squared_radius)))
        self.omega = nn.Parameter(torch.log(phase))
        self.log_gamma = nn.Parameter(0.5 * torch.log1p(-squared_radius))
        self.into_state = nn.Linear(width, 2 * n)
        self.out_of_state = nn.Linear(2 * n, width)

    def eigenvalues(self) -> Tensor:
        """lambda, complex [n]."""
        # beyond these bounds, in float32, the modulus rounds to 1, its gradient is inf * 0, and the phase is lost
        modulus, phase = torch.exp(-torch.exp(self.nu.clamp(-14.0, 10.0))), torch.exp(self.omega.clamp(max=16.0))
        return torch.complex(modulus * torch.cos(phase), modulus * torch.sin(phase))

    def drive(self, x: Tensor) -> Tensor:
        """gamma * (B x + b): real [..., d] to complex [..., n]."""
        gamma = torch.exp(self.log_gamma).repeat_interleave(2, dim=-1)
        flat = linear(x, self.into_state.weight * gamma[..., None], self.into_state.bias * gamma)
        return torch.view_as_complex(flat.unflatten(-1, (-1, 2)))

    def read(self, states: Tensor) -> Tensor:
        """Re(C h + c): complex [..., n] to real [..., d]."""
        return linear(torch.view_as_real(states).flatten(-2), self.out_of_state.weight, self.out_of_state.bias)

    def forward(self, x: Tensor, plain: bool = False, packing: Packing | None = None) -> Tensor:
        """[B, L, d] to [B, L, d]; ``plain`` uses the scan that can be differentiated twice."""
        return self.read(self.states(x, plain, packing))

    def states(self, x: Tensor, plain: bool = False, packing: Packing | None = None) -> Tensor:
        """h: real [B, L, d] to complex [B, L, n]."""
        if packing is not None:
            run = packed_scan_reference if plain else packed_scan
            return run(self.drive(x), self.eigenvalues(), packing)
        run = scan_reference if plain else scan
        return run(self.drive(x), self.eigenvalues())


class RecurrentBlock(nn.Module):
    """Recurrence and position-wise feed-forward (4d, GELU), each with dropout, residual and post-LayerNorm."""

    def __init__(self, width: int, dropout_prob: float, r_min: float, r_max: float):
        super().__init__()
        self.dropout_prob = dropout_prob
        self.recurrence = LinearRecurrence(width, r_min, r_max)
        self.recurrence_norm = nn.LayerNorm(width, eps=1e-5)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor, generator: Draws, plain: bool, packing: Packing | None = None) -> Tensor:
        return self._after_recurrence(x, self.recurrence(x, plain, packing), generator)

    def last(self, x: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
        """The output at one position of each row alone, without dropout: x [B, L, d] to [B, d]."""
        return self._after_recurrence(x[place], self.recurrence.read(self.recurrence.states(x)[place]), None)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One event: x [B, d], state complex [B, n]. Returns (output [B, d], new state)."""
        state = self.recurrence.eigenvalues() * state + self.recurrence.drive(x)
        return self._after_recurrence(x, self.recurrence.read(state), None), state

    def _after_recurrence(self, x: Tensor, y: Tensor, generator: Draws) -> Tensor:
        x = _normed(dropout(y, self.dropout_prob, generator) + x, self.recurrence_norm)
        hidden = dropout(F.gelu(linear(x, self.widen.weight, self.widen.bias)), self.dropout_prob, generator)
        y = dropout(linear(hidden, self.narrow.weight, self.narrow.bias), self.dropout_prob, generator)
        return _normed(y + x, self.feed_forward_norm)


class LRUEncoder(nn.Module):
    """Item vectors in, user states out: dropout, LayerNorm, then ``n_layers`` recurrent blocks."""

    def __init__(self, width: int, n_layers: int, dropout_prob: float, r_min: float, r_max: float):
        super().__init__()
        self.width = width
        self.dropout_prob = dropout_prob
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.blocks = nn.ModuleList(RecurrentBlock(width, dropout_prob, r_min, r_max) for _ in range(n_layers))
        self.apply(_truncated_normal)

    def forward(
        self, x: Tensor, generator: Draws = None, plain: bool = False, packing: Packing | None = None
    ) -> Tensor:
        """[B, L, d] to [B, L, d]. Drops out only with a generator; with ``plain`` it can be differentiated twice.

        packing: for several batches packed into x [M, T, d]; the weights are then those of M encoders.
        """
        x = _normed(dropout(x, self.dropout_prob, generator), self.norm)
        for block in self.blocks:
            x = block(x, generator, plain, packing)
        return x

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The output of :meth:`forward` after the last event of each row, without dropout and for less work.

        x [B, L, d], lengths int64 [B], values 1 .. L. Returns [B, d]. The last layer reads out only those states.
        """
        place = torch.arange(len(x), device=x.device), lengths - 1
        x = self.norm(x)
        for block in self.blocks[:-1]:
            x = block(x, None, False)
        return self.blocks[-1].last(x, place)

    def remember(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As :meth:`step` for each event of x [B, L, d] in turn, in one pass: (output [B, d], state) after the last."""
        x, state = self.norm(x), []
        for block in self.blocks:
            states = block.recurrence.states(x)
            state.append(states[:, -1].clone())  # a view would keep the states of the whole history
            x = block._after_recurrence(x, block.recurrence.read(states), None)
        return x[:, -1], state

    def initial_state(self, batch: int) -> list[Tensor]:
        """The state before any event: zeros, complex [B, n] per layer."""
        parameter = self.norm.weight
        dtype = torch.complex128 if parameter.dtype == torch.float64 else torch.complex64
        return [torch.zeros(batch, 2 * self.width, dtype=dtype, device=parameter.device) for _ in self.blocks]

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One more event x [B, d] per user, whose cost does not grow with the history: (output [B, d], new state)."""
        x, after = self.norm(x), []
        for block, before in zip(self.blocks, state, strict=True):
            x, now = block.step(x, before)
            after.append(now)
        return x, after


def _truncated_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(module.bias)
