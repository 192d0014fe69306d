"""Does the first order hold? The change of K after one step, as predicted and as it is (METHOD, "Why it works")."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prism.data import Encoded, collate
from prism.model import Model, token_losses
from prism.model.memory import in_fitting_batches

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Step:
    """A step of theta against a gradient g: its learning rate eta, its length as a share of the weights' norm, and the
    changes of K, predicted as eta <g, g_KL>, and measured, each with one figure per set of pairs."""

    rate: float
    size: float
    predicted: float
    measured: list[float]

    @property
    def ratio(self) -> float | None:
        """Measured on the target over predicted."""
        return self.measured[0] / self.predicted if self.predicted else None


def mean_gradient(model: Model, samples: Sequence[Encoded], batch_tokens: int) -> Tensors:
    """(1/m) sum of the gradients of the samples' summed response losses, in float32 or wider, by parameter."""
    parameters = model.parameters
    wide = {n: torch.float64 if p.dtype == torch.float64 else torch.float32 for n, p in parameters.items()}
    total = {n: torch.zeros_like(p, dtype=wide[n]) for n, p in parameters.items()}

    def run(places: list[int]) -> Sequence[torch.Tensor | None]:
        batch = collate([samples[i] for i in places]).to(model.device)
        loss = token_losses(model.network, batch).sum() / len(samples)
        return torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)

    def take(places: list[int], found: Sequence[torch.Tensor | None] | None) -> None:
        if found is not None:
            for sums, gradient in zip(total.values(), found, strict=True):
                if gradient is not None:
                    sums += gradient

    with torch.enable_grad(), model.requiring_grad():
        in_fitting_batches([len(s) for s in samples], batch_tokens, run, take)
    return total


def dot(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    """<a, b> over all parameters."""
    return float(sum((a[name].double() * b[name].to(a[name].device).double()).sum() for name in a))


def steps(
    model: Model,
    gradient: Tensors,
    direction: Mapping[str, torch.Tensor],
    sizes: Sequence[float],
    measure: Callable[[], list[float]],
) -> list[Step]:
    """theta' = theta - eta g for learning rates eta that make the steps so long; the weights are as before afterwards.

    Args:
        direction: g_KL, whose negative is the gradient of K.
        measure: K on each set of pairs, at the model as it is.
    """
    length = dot(gradient, gradient) ** 0.5
    weights = dot(model.parameters, model.parameters) ** 0.5
    if not length or not np.isfinite(length):
        return []
    before = measure()
    slope = dot(gradient, direction)
    found = []
    for size in sizes:
        rate = size * weights / length
        with _moved(model, gradient, rate):
            after = measure()
        found.append(Step(rate, size, rate * slope, [b - a for a, b in zip(before, after, strict=True)]))
    return found


@contextmanager
def _moved(model: Model, gradient: Tensors, rate: float) -> Iterator[None]:
    kept = {name: p.detach().clone() for name, p in model.parameters.items()}
    try:
        with torch.no_grad():
            for name, p in model.parameters.items():
                p.copy_(p.to(gradient[name].dtype) - rate * gradient[name])
        yield
    finally:
        with torch.no_grad():
            for name, p in model.parameters.items():
                p.copy_(kept[name])


CLIP = 1.0  # transformers' own max_grad_norm


def by_plain_descent(record: Mapping[str, Any], step: Mapping[str, Any], weights: int | None) -> float | None:
    """The first-order change of K that gradient descent would make with the learning rates of a training, clipped as
    it clips: sum_t eta_t min(1, c / |g_t|) times the slope per response token, as its loss is a mean over a step's
    tokens.

    None where the training moved other weights than the slope is of (a LoRA's factors, or all where it is of some), or
    where not every step was recorded.

    Args:
        record: a training's, as `train.json` has it.
        step: `rows`, and `slope` <mean gradient of the rows' summed losses, g_KL>, of so many `weights`.
    """
    losses = record["losses"]
    if not record["full"] or record["trained_parameters"] != weights or len(losses) != record["steps"]:
        return None
    most = record["settings"]["trainer"].get("max_grad_norm", CLIP)
    rates = [entry["learning_rate"] * _clipped(entry["gradient_norm"], most) for entry in losses]
    return float(sum(rates) * step["slope"] * step["rows"] / record["data"]["response_tokens"])


def _clipped(norm: float | None, most: float) -> float:
    return most / norm if most and norm and norm > most else 1.0
