"""Group encoded samples into padded batches under a token budget."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prism.data.encode import Encoded


@dataclass(frozen=True)
class Batch:
    """A right-padded batch of B samples and T tokens, with N response tokens in all.

    ids, mask: [B, T]; `predictors` [N] are flat indices into B*T of the positions that predict a response token,
    `labels` [N] those tokens, `owner` [N] the sample that each belongs to.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    predictors: torch.Tensor
    labels: torch.Tensor
    owner: torch.Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device) -> "Batch":
        moved = (
            t.to(device, non_blocking=True) for t in (self.ids, self.mask, self.predictors, self.labels, self.owner)
        )
        return Batch(*moved)


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of samples, batch by batch: sorted by length, each batch at most `budget` padded tokens.

    A function of its arguments alone. A sample longer than the budget makes a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def collate(samples: Sequence[Encoded]) -> Batch:
    """Pad to the longest sample, each with its own last token: no pad token is needed, and a weight that is broken for
    one token can't spoil the neighbours' scores through their padding."""
    width = max(len(s) for s in samples)
    ids = np.stack([np.pad(s.ids, (0, width - len(s)), mode="edge") for s in samples])
    mask = np.arange(width)[None, :] < np.array([len(s) for s in samples])[:, None]
    response = np.stack([np.pad(s.response, (0, width - len(s))) for s in samples])
    owner, position = np.nonzero(response)
    return Batch(
        ids=torch.from_numpy(ids),
        mask=torch.from_numpy(mask.astype(np.int64)),
        predictors=torch.from_numpy(owner * width + position - 1),
        labels=torch.from_numpy(ids[owner, position]),
        owner=torch.from_numpy(owner),
    )
