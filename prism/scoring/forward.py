"""Score batches without a backward pass: a sample's score is its loss's directional derivative along the direction.

`<g_z, v> = d/de l_z(theta + e v)` at e = 0, which is what a score against one direction is. Two ways:

- `CentralDifference`: (l_z(theta + e v) - l_z(theta - e v)) / 2e, two inference passes. Its error has a part from
  rounding, which falls with e, and one from curvature, which grows with e squared; `calibrated` measures both.
- `ForwardMode`: dual numbers (`torch.autograd.forward_ad`), one pass at about twice the cost of inference or more,
  exact up to rounding in any dtype.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from prism.data import Batch
from prism.model import Model, token_losses
from prism.model.quantized import is_quantized
from prism.scoring.engine import BatchScores
from prism.scoring.merge import merged_adapters


class CentralDifference:
    """Two inference passes, at theta + e v and at theta - e v; holds a copy of the chosen parameters for each.

    Args:
        direction: parameter name → [1, *shape].
        step: |e v| as a share of |theta|, over all chosen parameters.
    """

    name = "forward (central difference)"

    def __init__(self, model: Model, direction: Mapping[str, torch.Tensor], step: float) -> None:
        self._model = model
        self.shift = step / _length(model, direction)
        self._ends = [
            {n: torch.add(p.detach(), direction[n][0].to(p), alpha=e) for n, p in model.parameters.items()}
            for e in (self.shift, -self.shift)
        ]

    def score(self, batch: Batch) -> BatchScores:
        """Losses are the mean of both ends: the loss at theta up to a term in e squared."""
        ends = []
        with torch.no_grad(), merged_adapters(self._model.network):
            for end in self._ends:
                with replaced_parameters(self._model, end):
                    ends.append(_sums(token_losses(self._model.network, batch), batch))
        up, down = ends
        return BatchScores((up + down) / 2, ((up - down) / (2 * self.shift))[:, None], None)


class ForwardMode:
    """One pass of dual numbers, whose tangents are the directional derivatives."""

    name = "forward (dual numbers)"

    def __init__(self, model: Model, direction: Mapping[str, torch.Tensor]) -> None:
        self._model = model
        self._scale = _length(model, direction)  # keeps narrow dtypes from over- and underflow
        self._tangents = {n: (direction[n][0] / self._scale).to(p) for n, p in model.parameters.items()}

    def tokens(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses [N] of the response tokens, and their directional derivatives [N].

        Raises:
            NotImplementedError, RuntimeError: an operation of the model has no forward-mode derivative.
        """
        network = self._model.network
        if is_quantized(network):  # some kernels would drop the tangents without a word
            raise NotImplementedError("products with quantised matrices have no forward-mode derivative")
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), eager_experts(network):
            duals = {n: forward_ad.make_dual(p.detach(), self._tangents[n]) for n, p in self._model.parameters.items()}  # type: ignore[no-untyped-call]
            with replaced_parameters(self._model, duals):
                primal, tangent = forward_ad.unpack_dual(token_losses(network, batch))  # type: ignore[no-untyped-call]
        return primal, torch.zeros_like(primal) if tangent is None else tangent * self._scale

    def score(self, batch: Batch) -> BatchScores:
        losses, tangents = self.tokens(batch)
        return BatchScores(_sums(losses, batch), _sums(tangents, batch)[:, None], None)


def _sums(tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
    """[N] → [B], in float64: a central difference is what is left when most digits cancel."""
    return torch.zeros(len(batch), dtype=torch.float64, device=tokens.device).index_add(0, batch.owner, tokens.double())


def _length(model: Model, direction: Mapping[str, torch.Tensor]) -> float:
    """|v| / |theta|, or |v| where theta is zero, as the B of a new LoRA is."""
    return _norm(direction) / (_norm(model.parameters) or 1.0)


def _norm(tensors: Mapping[str, torch.Tensor]) -> float:
    return float(torch.stack([t.detach().double().square().sum() for t in tensors.values()]).sum().sqrt())


@contextmanager
def replaced_parameters(model: Model, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The network computes with `tensors` in place of its chosen parameters inside."""
    for module, key, name in model.owners:
        module._parameters[key] = tensors[name]  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, key, name in model.owners:
            module._parameters[key] = model.parameters[name]


@contextmanager
def eager_experts(network: Any) -> Iterator[None]:
    """Mixtures of experts by plain matrix products: transformers' grouped ones have no forward-mode derivative."""
    before = getattr(network.config, "_experts_implementation", None)
    if before in (None, "eager"):
        yield
        return
    network.set_experts_implementation("eager")
    try:
        yield
    finally:
        network.set_experts_implementation(before)
