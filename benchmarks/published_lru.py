"""Predicted tokens per second of a training step: ours against the published algorithm (published_reference.py)."""

import torch
from harness import Figure, NotYet, Result, alternate, assert_close, main, ratios, seconds
from published_reference import PublishedLRURec, left_padded
from sides import Side, build, count_tokens
from torch.nn import functional as F

# isort: split
from recbole.data.interaction import Interaction

from recbole_metarec.data.batches import TARGET_LIST


def measure(options) -> Result:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise NotYet("no GPU here")
    ours = build("LRURec", options.data_path, device=options.device)
    ours.epoch()
    published = PublishedLRURec(ours.model.state_dict(), ours.config["dropout_prob"]).to(options.device)
    inputs, targets = all_rows(ours)
    proof = same_loss(ours, published, inputs[:256], targets[:256])
    inputs, targets = left_padded(inputs, targets, inputs.shape[1])
    size = -(-len(inputs) // len(ours.train))
    chosen = list(zip(inputs.split(size), targets.split(size), strict=True))[: options.batches]
    optimizer = torch.optim.AdamW(published.parameters(), lr=ours.config["learning_rate"])
    our_tokens, their_tokens = count_tokens(ours)[1], sum(int((answers > 0).sum()) for _, answers in chosen)
    rates = alternate(
        {
            "ours": lambda: our_tokens / ours.epoch(),
            "published": lambda: their_tokens / seconds(lambda: train(published, optimizer, chosen, options.device)),
        },
        options.repeats,
    )
    return Result(
        same=proof,
        reached=ratios(rates["ours"], rates["published"]),
        figures={
            "our epoch": Figure("tokens/s", rates["ours"]),
            "published step": Figure("tokens/s", rates["published"]),
        },
        notes=f"Published side: {len(chosen)} batches of {size} random rows, as many rows as ours have on average; "
        "they are padded beforehand, outside its time, while ours include gathering them.",
    )


def all_rows(side: Side) -> tuple[torch.Tensor, torch.Tensor]:
    """Every row of an epoch in random order, padded on the right: inputs, targets int64 [R, L]."""
    length, rows = side.config["MAX_ITEM_LIST_LENGTH"], []
    for batch in side.train:
        pair = torch.stack([batch[f"{side.train.dataset.iid_field}_list"], batch[TARGET_LIST]])
        rows.append(F.pad(pair, (0, length - pair.shape[2])))
    rows = torch.cat(rows, dim=1)
    order = torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(0))
    return tuple(rows[:, order])


def same_loss(ours: Side, published: PublishedLRURec, inputs, targets) -> str:
    """Compares loss and gradients of both sides on the same rows, without dropout. Leaves no gradient behind."""
    device = ours.trainer.device
    rows = Interaction({f"{ours.train.dataset.iid_field}_list": inputs, TARGET_LIST: targets}).to(device)
    ours.model.eval()
    published.eval()
    our_loss = ours.model.calculate_loss(rows)
    ours.model.zero_grad(set_to_none=True)  # an epoch leaves its last gradients behind
    our_loss.backward()
    their_loss = published.loss(*(part.to(device) for part in left_padded(inputs, targets, inputs.shape[1])))
    their_loss.backward()
    loss = assert_close("loss", abs(our_loss.item() - their_loss.item()), 1e-5)
    gradients = published.gradients()
    off = max(
        float((parameter.grad - gradients[name]).norm() / parameter.grad.norm())
        for name, parameter in ours.model.named_parameters()
    )
    gradient = assert_close("gradient", off, 1e-3)
    ours.model.zero_grad(set_to_none=True)
    published.zero_grad(set_to_none=True)
    return f"{len(inputs)} rows, same parameters: loss differs by {loss}, gradients by {gradient} of their norm at most"


def train(model: PublishedLRURec, optimizer, batches, device: str) -> None:
    """Does one step on each batch."""
    model.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        model.loss(inputs.to(device), targets.to(device)).backward()
        optimizer.step()


if __name__ == "__main__":
    main(
        measure,
        device={"default": "cpu", "choices": ["cpu", "cuda"]},
        batches={"type": int, "default": 3, "help": "batches of the published side in each repeat"},
    )
