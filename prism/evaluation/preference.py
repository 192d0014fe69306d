"""How much a model prefers the wanted responses of a target."""

from dataclasses import dataclass

import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoder, Target, plan_batches
from prism.model import Model
from prism.target import encode_pairs, mean_losses, pair_lengths, potential, preference


@dataclass(frozen=True)
class Preference:
    """Over all pairs: mean pi, share of pairs with pi > 1/2, the potential K, and mean log pi (METHOD)."""

    mean: float
    won: float
    potential: float
    mean_log: float
    pairs: int


@torch.no_grad()
def evaluate_preference(
    model: Model, target: Target, encoder: Encoder, *, batch_tokens: int = BATCH_TOKENS
) -> Preference:
    """Measure the model's preference on `target`, without gradients.

    Raises:
        DataError: no pair can be used.
    """
    _, encoded, _ = encode_pairs(target, encoder)
    batches = plan_batches(pair_lengths(encoded), batch_tokens)
    parts = [mean_losses(model, [encoded[i] for i in batch]) for batch in batches]
    chosen, rejected = (torch.cat([part[side] for part in parts]).double() for side in (0, 1))
    pi = preference(chosen, rejected)
    return Preference(
        mean=float(pi.mean()),
        won=float((pi > 0.5).double().mean()),
        potential=float(potential(chosen, rejected)),
        mean_log=float(torch.nn.functional.logsigmoid(rejected - chosen).mean()),
        pairs=len(pi),
    )
