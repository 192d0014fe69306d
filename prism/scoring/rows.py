"""Which sample of a batch each row of a tensor belongs to."""

from typing import Protocol

import torch


class Untappable(Exception):
    """A chosen parameter is used in a way that taps can't follow; the caller scores sample by sample instead."""


class Rows(Protocol):
    """Rearranges tensors by sample.

    `samples` [b]: which samples of the batch have rows at all; None where all do, in order. `start` tells apart calls
    of one module that bring different rows.
    """

    samples: torch.Tensor | None
    start: int

    def __call__(self, t: torch.Tensor) -> torch.Tensor:
        """[…, width] → [b, R, width]: the rows of each sample, padded with zeros."""
        ...


class Even:
    """Of tensors [B, …, width] or [B * T, width]: as many rows for each sample."""

    samples: torch.Tensor | None = None
    start: int = 0

    def __init__(self, batch: int) -> None:
        self._batch = batch

    def __call__(self, t: torch.Tensor) -> torch.Tensor:
        return t.reshape(self._batch, -1, t.shape[-1])


class Uneven:
    """Of tensors [n, width] or [1, n, width] with `owner` [n], the rows of a sample next to each other."""

    def __init__(self, owner: torch.Tensor, start: int = 0) -> None:
        self.start = start
        self.samples: torch.Tensor | None
        self.samples, self._group, counts = torch.unique_consecutive(owner, return_inverse=True, return_counts=True)
        self._place = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[self._group]
        self._size = len(counts), int(counts.max())

    def __call__(self, t: torch.Tensor) -> torch.Tensor:
        rows = t.new_zeros(*self._size, t.shape[-1])
        rows[self._group, self._place] = t.reshape(-1, t.shape[-1])
        return rows


class Unknown:
    """Of tensors that can't be told apart by sample, which is an error only where a gradient arrives."""

    samples: torch.Tensor | None = None
    start: int = 0

    def __init__(self, shape: torch.Size) -> None:
        self._shape = tuple(shape)

    def __call__(self, t: torch.Tensor) -> torch.Tensor:
        raise Untappable(f"a tensor of shape {self._shape} can't be told apart by sample")
