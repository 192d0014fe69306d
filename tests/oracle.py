"""Independent oracles: one sample at a time, full logits, plain autograd."""

import math
from typing import Any

import torch
from torch.nn import functional as F

from prism.data import Encoded
from prism.model import Model

Gradients = dict[str, torch.Tensor]


def token_losses(network: Any, sample: Encoded) -> torch.Tensor:
    """Loss of each response token, from all logits of the unpadded sample with an explicit attention mask."""
    ids = torch.from_numpy(sample.ids)[None]
    logits = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1]
    losses = F.cross_entropy(logits, ids[0, 1:], reduction="none")
    return losses[torch.from_numpy(sample.response[1:])]


def gradients(model: Model, loss: torch.Tensor) -> Gradients:
    found = torch.autograd.grad(loss, list(model.parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(model.parameters.items(), found, strict=True)
    }


def sample_gradient(model: Model, sample: Encoded) -> tuple[float, Gradients]:
    with model.requiring_grad():
        loss = token_losses(model.network, sample).sum()
        return float(loss.detach()), gradients(model, loss)


def dot(a: Any, b: Any) -> float:
    return float(sum((a[name].double() * b[name].double()).sum() for name in a))


def norm(a: Any) -> float:
    return math.sqrt(dot(a, a))
