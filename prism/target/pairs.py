"""The gradients of single target pairs, each side for itself."""

from collections.abc import Iterable

import torch

from prism.data import Encoded, collate
from prism.model import Model, token_losses
from prism.target.direction import Direction
from prism.target.measure import EncodedPair


def pair_gradients(model: Model, pairs: Iterable[EncodedPair]) -> Iterable[tuple[Direction, Direction]]:
    """(grad l(y+), grad l(y-)) of each pair, l the mean loss per response token: g_KL is their pi-weighted mean
    difference (METHOD eqs 4-6)."""
    return ((_gradient(model, chosen), _gradient(model, rejected)) for chosen, rejected in pairs)


def _gradient(model: Model, side: Encoded) -> Direction:
    with torch.enable_grad(), model.requiring_grad():
        loss = token_losses(model.network, collate([side]).to(model.device)).mean()
        found = torch.autograd.grad(loss, list(model.parameters.values()), allow_unused=True)
    items = zip(model.parameters.items(), found, strict=True)
    return Direction({name: torch.zeros_like(p) if g is None else g for (name, p), g in items})
