"""Losses of the response tokens, with logits computed nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from prism.data import Batch


def token_losses(network: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy of every response token of a batch, in nats: [N], in float32 or the model's dtype if wider.

    No attention mask is passed: the batch is padded on the right, so that in a causal model no real token ever attends
    to padding, positions count from 0, and attention keeps its fast causal path.
    """
    head = network.get_output_embeddings()
    with _only_at(head, batch):
        logits = network(input_ids=batch.ids, use_cache=False).logits
    if logits.shape[:2] == batch.ids.shape:
        logits = logits.flatten(0, 1)[batch.predictors]
    logits = logits.reshape(len(batch.labels), -1)
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), batch.labels, reduction="none")


def sample_losses(losses: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of `losses` [N] by sample: [B]."""
    return torch.zeros(len(batch), dtype=losses.dtype, device=losses.device).index_add(0, batch.owner, losses)


@contextmanager
def _only_at(head: Any, batch: Batch) -> Iterator[None]:
    """Hand the output head only the hidden states that predict a response token, [B, T, H] → [1, N, H]: soft caps and
    scalings that a model applies to its logits stay in place."""

    def pick(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if args and args[0].shape[:2] == batch.ids.shape:
            return (args[0].flatten(0, 1)[batch.predictors].unsqueeze(0), *args[1:])
        return None

    handle = head.register_forward_pre_hook(pick) if isinstance(head, nn.Module) else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
