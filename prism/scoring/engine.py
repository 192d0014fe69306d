"""What an engine is: batches in, losses, scores and norms out."""

from dataclasses import dataclass
from typing import Protocol

import torch

from prism.data import Batch


@dataclass(frozen=True)
class BatchScores:
    """losses [B], summed over response tokens, in nats; scores [B, K]; norms [B] of the sample gradients, or None."""

    losses: torch.Tensor
    scores: torch.Tensor
    norms: torch.Tensor | None


class Engine(Protocol):
    """Scores samples against the directions that it was made for."""

    name: str

    def score(self, batch: Batch) -> BatchScores: ...
