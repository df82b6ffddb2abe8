"""The settings of the meta transfer, and the state that it carries from step to step."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_metarec.trainer.forms import Dependent, optimizer_form
from recbole_metarec.trainer.meta_step import Tensors


def source_weight(config, transfer: str) -> float:
    """Weight of the sources' own gradients in the update; auto: 1 in joint training, as the target's, else 0."""
    weight = config["source_weight"]
    return (1.0 if transfer == "joint" else 0.0) if weight == "auto" else weight


@dataclass(frozen=True)
class TransferSettings:
    """The config keys of the meta transfer, under their names."""

    inner_steps: int
    second_order: bool
    target_batch: str
    gradient_rescaling: str
    rescale_sign: str
    similarity_at: str
    similarity_over: str
    similarity_momentum: float
    temperature: float
    source_weight: float
    diagnostics_every: int

    @classmethod
    def of(cls, config, transfer: str) -> "TransferSettings":
        """The settings in a config."""
        values = {name: config[name] for name in cls.__dataclass_fields__}
        return cls(**values | {"source_weight": source_weight(config, transfer)})

    def compared(self, names: list[str]) -> list[str]:
        """Which of these parameters the similarity compares, by name."""
        if self.similarity_over == "all":
            return list(names)
        beside = {"encoder_and_codes": "item_embedding.weight", "encoder_and_memory": "memory.head."}
        return [name for name in names if name.startswith(("encoder.", beside.get(self.similarity_over, "encoder.")))]


@dataclass
class TransferState:
    """What the meta transfer carries from step to step. All of it is saved for resuming.

    log_rates: log(alpha) of each parameter tensor. smoothed: running means of the sources' scores, float [M].
    steps: outer steps done. rate_optimizer: steps log(alpha); None keeps alpha fixed.
    """

    log_rates: Tensors
    smoothed: Tensor
    steps: int = 0
    rate_optimizer: torch.optim.Optimizer | None = None

    @classmethod
    def initial(cls, alphas: dict[str, float], learning_rate: float, n_sources: int, device) -> "TransferState":
        """alphas: start value by parameter. learning_rate: above 0, each alpha is learned separately; 0 fixes them."""
        rates = {name: torch.tensor(float(alpha), device=device).log() for name, alpha in alphas.items()}
        rates = {name: rate.requires_grad_(learning_rate > 0) for name, rate in rates.items()}
        learner = torch.optim.Adam(rates.values(), lr=learning_rate) if learning_rate > 0 else None
        return cls(rates, torch.zeros(n_sources, device=device), rate_optimizer=learner)

    def smooth(self, scores: Tensor, usable: Tensor, momentum: float) -> None:
        """Moves the running means [M] towards the scores [M] of a step. In the first step the scores are the means.

        A source that is not usable (bool [M]) or has no finite score keeps its mean.
        """
        momentum = momentum if self.steps else 0.0
        moved = momentum * self.smoothed + (1.0 - momentum) * scores
        self.smoothed = torch.where(usable & scores.isfinite(), moved, self.smoothed)

    def learn_rates(self, gradient: Tensors) -> None:
        """Steps alpha's optimiser, if there is one. gradient: of the target's loss by each parameter's log(alpha)."""
        if self.rate_optimizer is None:
            return
        for name, rate in self.log_rates.items():
            rate.grad = gradient[name]
        self.rate_optimizer.step()

    def state_dict(self) -> dict:
        """Tensors and plain values only: a copy, which later steps do not change."""
        rates = {name: value.detach().clone() for name, value in self.log_rates.items()}
        learner = copy.deepcopy(self.rate_optimizer.state_dict()) if self.rate_optimizer else None
        return {"log_rates": rates, "smoothed": self.smoothed.clone(), "steps": self.steps, "rate_optimizer": learner}

    def form(self, steps: int) -> dict:
        """The form of :meth:`state_dict` after at most ``steps`` steps of training."""

        def learner(state):
            return self.rate_optimizer and optimizer_form(self.rate_optimizer, state["steps"], moves_all=True)

        form = {"log_rates": self.log_rates, "smoothed": self.smoothed, "steps": range(steps + 1)}
        form["rate_optimizer"] = Dependent(learner)
        return form

    def load_state_dict(self, state: dict) -> None:
        """Continues where :meth:`state_dict` was taken."""
        for name, value in state["log_rates"].items():
            self.log_rates[name].data.copy_(value)
        self.smoothed, self.steps = state["smoothed"].clone(), state["steps"]
        if self.rate_optimizer:
            self.rate_optimizer.load_state_dict(state["rate_optimizer"])
