"""The gradients of single target pairs, each side for itself."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch

from prism.data import Encoded, collate
from prism.model import Model, token_losses
from prism.model.memory import attempt
from prism.model.scaled import AVERAGED, LossScale
from prism.target.direction import Direction
from prism.target.losses import EncodedPair


def pair_gradients(model: Model, pairs: Iterable[EncodedPair]) -> Iterator[tuple[Direction, Direction] | None]:
    """(grad l(y+), grad l(y-)) of each pair, l the mean loss per response token: g_KL is their pi-weighted mean
    difference (METHOD eqs 4-6). None for a pair of which a side is too long for the memory."""
    scale = LossScale(model, AVERAGED)
    for pair in pairs:
        sides = []
        for side in pair:
            found = attempt(partial(_gradient, model, side, scale))
            if found is None:
                break
            sides.append(found)
        yield (sides[0], sides[1]) if len(sides) == 2 else None


def _gradient(model: Model, side: Encoded, scale: LossScale) -> Direction:
    batch = collate([side]).to(model.device)
    with torch.enable_grad(), model.requiring_grad():
        found = scale.gradients(token_losses(model.network, batch, scale.alone).mean())
        while not scale.served(found):
            found = scale.gradients(token_losses(model.network, batch, scale.alone).mean())
    items = zip(model.parameters.items(), found, strict=True)
    return Direction({name: torch.zeros_like(p) if g is None else g for (name, p), g in items})
