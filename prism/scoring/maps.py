"""What an optimizer makes of a sample's gradient before it moves the weights: maps, element by element."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from prism.errors import ModelError


class CandidateMap(Protocol):
    """Gamma: gradients [b, *shape] of b samples by one parameter → as many of the same shape, sample by sample.

    Gradients come in float32 or wider, and stay as they are.
    """

    def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Moments:
    """What Adam knows of each parameter after some steps.

    `first`, `second`: parameter name → exponential averages of gradients and of their squares, of the parameter's
    shape, as the optimizer held them. `steps`: parameter name → steps that were taken. `learning_rate`: the weight of
    this checkpoint where several are summed (TracIn, LESS), of which `rate_from` says where it was read. `notices`:
    what a user should know of it all.
    """

    first: Mapping[str, torch.Tensor]
    second: Mapping[str, torch.Tensor]
    steps: Mapping[str, int]
    betas: tuple[float, float]
    eps: float
    learning_rate: float
    rate_from: str = ""
    notices: Sequence[str] = ()

    @property
    def step(self) -> int:
        """Steps that were taken."""
        return max(self.steps.values(), default=0)


class AdamMap:
    """The step, for a learning rate of one, that Adam would take on a sample alone, from its saved moments (LESS,
    arXiv 2402.04333, with both bias corrections):

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g*g, Gamma = (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps), where t
    is the saved step + 1. Weight decay is no part of it.

    Moments go to the gradients' device when they are first asked for, and stay there.
    """

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._held: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
        """Raises ModelError for a parameter without moments."""
        m, v = (t.to(gradients.dtype) for t in self._of(name, gradients.device))
        b1, b2 = self._moments.betas
        t = self._moments.steps[name] + 1
        size = gradients.square().mul_(1 - b2).add_(v, alpha=b2).div_(1 - b2**t).sqrt_().add_(self._moments.eps)
        return (gradients * (1 - b1)).add_(m, alpha=b1).div_(1 - b1**t).div_(size)

    def _of(self, name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if name not in self._held:
            if name not in self._moments.first:
                raise ModelError(f"there are no Adam moments of {name}")
            self._held[name] = self._moments.first[name].to(device), self._moments.second[name].to(device)
        return self._held[name]


class SignMap:
    """The sign of every element, as in signed descent: Adam's step without any memory."""

    def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
        return gradients.sign()


class IdentityMap:
    """The gradient itself."""

    def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
        return gradients
