"""How much of the arithmetic limit a training epoch of LRURec reaches, in per cent.

The limit is the time that the useful multiplications of an epoch would take at the rate of a large matrix product.
Floating-point operations (a multiply-add is two), d width, n catalogue without padding, forward:

    encoder, per real input and layer:   2 * 4 d^2 (into the state: d to 2d complex, that is 4d real)
                                       + 2 * 4 d^2 (out of it)
                                       + 2 * 8 d^2 (feed-forward: d to 4d to d)        = 32 d^2
    softmax, per predicted target:       2 * d * n

Backward costs twice as much (gradients of both factors), so an epoch is three times the forward pass. Recurrence,
dropout, LayerNorm, GELU, exponentials, batches and optimiser are not counted: they are what keeps an epoch below 100.
"""

import torch
from harness import Figure, Result, alternate, assert_close, main, seconds
from sides import build, count_tokens
from torch.utils.flop_counter import FlopCounterMode

from recbole_metarec.data.batches import SequenceBatch

_EDGE = 2048


def useful_flops(inputs: int, targets: int, width: int, layers: int, n_items: int) -> float:
    """By the formula above; n_items counts padding."""
    return 3.0 * (32 * width**2 * layers * inputs + 2 * width * (n_items - 1) * targets)


def measure(options) -> Result:
    side = build("LRURec", options.data_path)
    width, layers = side.config["embedding_size"], side.config["n_layers"]
    inputs, targets = count_tokens(side)
    flops = useful_flops(inputs, targets, width, layers, side.model.n_items)
    proof = formula_is_right(side.model, width, layers)
    left, right = torch.randn(_EDGE, _EDGE), torch.randn(_EDGE, _EDGE)

    def rate() -> float:
        return 2 * _EDGE**3 / min(seconds(lambda: left @ right) for _ in range(5)) / 1e9

    measured = alternate({"epoch": side.epoch, "rate": rate}, options.repeats)
    best = max(measured["rate"]) * 1e9
    return Result(
        same=proof,
        reached=[100 * flops / best / epoch for epoch in measured["epoch"]],
        figures={
            "LRURec epoch": Figure("s", measured["epoch"]),
            f"{_EDGE}³ sgemm": Figure("GFLOP/s", measured["rate"]),
        },
        notes=f"{flops / 1e9:.1f} GFLOP an epoch ({inputs} real inputs, {targets} targets); the limit takes the best "
        "sgemm rate of the run.",
    )


def formula_is_right(model, width: int, layers: int) -> str:
    """Compares the formula with torch's own count on full-length rows, by plain operations (no fused loss or scan)."""
    batch = SequenceBatch(*torch.randint(1, model.n_items, (2, 8, 32)))
    parameters = dict(model.named_parameters())
    with FlopCounterMode(display=False) as counter:
        loss = model.target_loss(parameters, batch, None, plain=True)
        torch.autograd.grad(loss, list(parameters.values()))
    tokens = batch.inputs.numel()
    expected = useful_flops(tokens, tokens, width, layers, model.n_items)
    off = abs(counter.get_total_flops() / expected - 1)
    return f"formula against torch's own count on an unpadded batch: off by {assert_close('FLOPs', off, 0.01)}"


if __name__ == "__main__":
    main(measure)
