"""Losses of the response tokens, with logits computed nowhere else and never all at once."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from prism.data import Batch
from prism.model.head import Head, head_of

HEAD_SCALE = (
    256.0  # of the loss, for the gradients of a single token's hidden state: entries of a head's weight are small
)
LOGITS = {"cpu": 1 << 22, "cuda": 1 << 27}  # held at once: on a CPU they should stay in its cache


def token_losses(network: Any, batch: Batch, scale: float = 1.0) -> torch.Tensor:
    """Cross-entropy of every response token of a batch, in nats: [N], in float32 or the model's dtype if wider.

    No attention mask is passed: the batch is padded on the right, so that in a causal model no real token ever attends
    to padding, positions count from 0, and attention keeps its fast causal path.

    The output head runs on the positions that predict a response token, a few samples at a time. Where gradients are
    asked for, those of each part's hidden states are computed with its losses, so that no logits are kept; they are
    kept times `scale` (`LossScale`), and so are the gradients that the head itself sees.
    """
    head = head_of(network)
    if head is None:
        return _losses(
            network(input_ids=batch.ids, use_cache=False).logits.flatten(0, 1)[batch.predictors], batch.labels
        )
    hidden = head.hidden_states(batch.ids).flatten(0, 1)[batch.predictors]
    if torch.is_grad_enabled() and head.requires_grad():
        return _losses(head.logits(hidden), batch.labels)
    bounds = list(_parts(batch, LOGITS.get(hidden.device.type, 1 << 24) // head.vocabulary))
    if torch.is_grad_enabled() and hidden.requires_grad:
        losses: torch.Tensor = _InParts.apply(hidden, head, batch.labels, bounds, scale)  # type: ignore[no-untyped-call]
        return losses
    return torch.cat([_losses(head.logits(hidden[a:b]), batch.labels[a:b]) for a, b in bounds])


def sample_losses(losses: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of `losses` [N] by sample: [B]."""
    return torch.zeros(len(batch), dtype=losses.dtype, device=losses.device).index_add(0, batch.owner, losses)


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), labels, reduction="none")


def _parts(batch: Batch, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of response tokens, at most `most` long where samples allow it: none is cut in two."""
    counts = torch.bincount(batch.owner, minlength=len(batch)).tolist()
    start = stop = 0
    for count in counts:
        if stop > start and stop + count - start > most:
            yield start, stop
            start = stop
        stop += count
    yield start, stop


class _InParts(torch.autograd.Function):
    """Losses [N] of hidden states [N, H]. A token's loss depends on its own hidden state alone, so the gradients for
    any upstream gradient w are those of the summed loss, row by row times w; they are kept times `scale`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        head: Head,
        labels: torch.Tensor,
        bounds: Sequence[tuple[int, int]],
        scale: float,
    ) -> torch.Tensor:
        gradients, losses = torch.empty_like(hidden), []
        for start, stop in bounds:
            with torch.enable_grad():
                part = hidden[start:stop].detach().requires_grad_()
                found = _losses(head.logits(part), labels[start:stop])
                (gradients[start:stop],) = torch.autograd.grad(found.sum() * scale, part)
            losses.append(found.detach())
        ctx.save_for_backward(gradients)
        ctx.scale = scale  # type: ignore[attr-defined]
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        upstream = upstream[:, None]
        if gradients.dtype == torch.float16:  # where neither factor need have a place
            found = (gradients.float() * (upstream / ctx.scale)).half()
        else:
            found = gradients * (upstream / ctx.scale).to(gradients.dtype)
        return found, None, None, None, None
