"""Curvatures built densely in float64, one unpadded sample at a time, by plain hooks and autograd."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from prism.data import Encoded
from prism.model import Model

Tensors = dict[str, torch.Tensor]


def logits(network: Any, sample: Encoded) -> torch.Tensor:
    """[response tokens, vocabulary], from all logits with an explicit attention mask."""
    ids = torch.from_numpy(sample.ids)[None]
    found: torch.Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
    return found[torch.from_numpy(sample.response[1:])]


@dataclass
class Seen:
    """Of one parameter: its inputs and output gradients by sample, and its gradients."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    transposed: bool = False


def observe(model: Model, samples: Sequence[Encoded], labels: Sequence[torch.Tensor]) -> dict[str, Seen]:
    """Run every sample alone at its labels."""
    seen = {name: Seen() for name in model.parameters}
    names = {id(p): name for name, p in model.parameters.items()}
    held = {m: names[id(m.weight)] for m in model.network.modules() if id(getattr(m, "weight", None)) in names}

    def hook(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        mine = seen[held[module]]
        mine.transposed = isinstance(module, Conv1D)
        mine.inputs.append(args[0].detach().flatten(0, -2))
        output.register_hook(lambda d: mine.outputs.append(d.flatten(0, -2)))  # type: ignore[no-untyped-call]

    handles = [m.register_forward_hook(hook) for m in held if isinstance(m, nn.Linear | Conv1D)]
    for sample, own in zip(samples, labels, strict=True):
        with model.requiring_grad():
            loss = F.cross_entropy(logits(model.network, sample), own, reduction="sum")
            found = torch.autograd.grad(loss, list(model.parameters.values()), allow_unused=True)
        for (name, p), gradient in zip(model.parameters.items(), found, strict=True):
            seen[name].gradients.append(torch.zeros_like(p) if gradient is None else gradient)
    for handle in handles:
        handle.remove()
    return seen


def squares(seen: Seen) -> torch.Tensor:
    """Sum over samples of the squared gradient, in the parameter's shape."""
    return torch.stack(seen.gradients).square().sum(0)


def factors(seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
    """(of rows, of columns) of the parameter as it is stored: means over all tokens."""
    x, d = torch.cat(seen.inputs), torch.cat(seen.outputs)
    a, s = x.T @ x / len(x), d.T @ d / len(x)
    return (a, s) if seen.transposed else (s, a)


def kfac(seen: Seen) -> torch.Tensor:
    """Over the flattened parameter."""
    return torch.kron(*factors(seen))


def ekfac(seen: Seen) -> torch.Tensor:
    q = torch.kron(*(torch.linalg.eigh(factor).eigenvectors for factor in factors(seen)))
    rotated = torch.stack([q.T @ g.flatten() for g in seen.gradients])
    return q @ torch.diag(rotated.square().mean(0)) @ q.T


def gauss_newton(model: Model, samples: Sequence[Encoded]) -> torch.Tensor:
    """(1/n) sum_i sum_t J' (diag(p) - p p') J over all chosen parameters, flattened and one after another."""
    parameters = list(model.parameters.values())
    total = torch.zeros(2 * (sum(p.numel() for p in parameters),), dtype=torch.float64)
    for sample in samples:
        with model.requiring_grad():
            z = logits(model.network, sample)
            every = torch.eye(z.numel(), dtype=z.dtype).view(-1, *z.shape)
            rows = torch.autograd.grad(z, parameters, every, is_grads_batched=True)
        jacobian = torch.cat([r.flatten(1) for r in rows], 1).view(*z.shape, -1)
        p = torch.softmax(z.detach(), -1)
        centred = jacobian - (p[:, :, None] * jacobian).sum(1, keepdim=True)
        weighted = (p.sqrt()[:, :, None] * centred).flatten(0, 1)
        total += weighted.T @ weighted
    return total / len(samples)
