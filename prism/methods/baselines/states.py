"""Similarity to targets by the model's own hidden states."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from prism.data import Encoded, Row, collate
from prism.errors import DataError
from prism.methods.baselines.rowwise import Batchwise, Floats
from prism.methods.context import Context, Options
from prism.model import Model
from prism.model.head import head_of
from prism.model.memory import in_fitting_batches
from prism.scoring.feed import RowScorer

Weigh = Callable[[torch.Tensor], torch.Tensor]


def by_mean_states(context: Context, _: Options) -> RowScorer:
    """Cosine of the mean of the last hidden states over all tokens of prompt and response [rows, targets]."""
    return _by_states(context, "embed", lambda mask: mask)


def by_late_states(context: Context, _: Options) -> RowScorer:
    """RDS+ (Ivison et al., arXiv 2503.01807): the i-th token of prompt and response, from 1, weighs i."""
    return _by_states(context, "rds+", lambda mask: mask.cumsum(1) * mask)


def _by_states(context: Context, name: str, weigh: Weigh) -> RowScorer:
    model = context.loaded()[0]
    targets = context.pairs[1]
    against = embedded_targets(context, lambda places: pooled_states(model, weigh, [targets[i] for i in places]))

    def measure(_: Sequence[Row], samples: Sequence[Encoded]) -> tuple[Floats, None]:
        return cosines(pooled_states(model, weigh, samples), against), None

    return Batchwise(name, measure, len(targets), context.batch_tokens)


def pooled_states(model: Model, weigh: Weigh, samples: Sequence[Encoded]) -> torch.Tensor:
    """Unit vectors [B, H] along the weighted means of the last hidden states (those that the output head reads), in
    float32 or the model's dtype if wider. `weigh` gives the weights [B, T] of the tokens that `mask` [B, T] marks."""
    batch = collate(samples).to(model.device)
    with torch.no_grad():
        states = last_states(model.network, batch.ids)
        states = states if states.dtype == torch.float64 else states.float()
        weights = weigh(batch.mask).to(states.dtype)
        states.masked_fill_(batch.mask[:, :, None] == 0, 0)  # 0 * NaN is NaN: padding must not spoil a sample
        pooled = torch.einsum("bt,bth->bh", weights / weights.sum(1, keepdim=True), states)
        unit: torch.Tensor = pooled / pooled.norm(dim=1, keepdim=True)
        return unit


def last_states(network: Any, ids: torch.Tensor) -> torch.Tensor:
    """The last hidden states [B, T, H], without logits where the network lets them be had so."""
    head = head_of(network)
    if head is not None:
        return head.hidden_states(ids)
    states: torch.Tensor = network(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-1]
    return states


def cosines(rows: torch.Tensor, targets: torch.Tensor) -> Floats:
    """Inner products [rows, targets] of unit vectors."""
    found: Floats = (rows @ targets.T).double().cpu().numpy()
    return found


def embedded_targets(context: Context, embed: Callable[[list[int]], torch.Tensor]) -> torch.Tensor:
    """What `embed` makes of the targets at given places, for all of them [targets, H]; NaN where one does not fit into
    the memory even alone. Those that are not finite are named.

    Raises:
        DataError: none is finite.
    """
    pairs, encoded, _ = context.pairs
    parts: dict[int, torch.Tensor] = {}

    def take(places: list[int], made: torch.Tensor | None) -> None:
        context.progress.advance(len(places), sum(len(encoded[i]) for i in places))
        if made is not None:
            parts.update((i, vector) for i, vector in zip(places, made, strict=True) if bool(vector.isfinite().all()))

    context.progress.start("target", len(pairs))
    in_fitting_batches([len(e) for e in encoded], context.batch_tokens, embed, take)
    broken = [pair.id for i, pair in enumerate(pairs) if i not in parts]
    if not parts:
        raise DataError(
            f"none of the {len(pairs)} targets has a finite embedding that fits into the memory: "
            "are the model's weights NaN, is --dtype too narrow, or --max-length too large?"
        )
    if broken:
        context.progress.note(f"targets without a finite embedding, which are left out: {len(broken)}, as {broken[0]}")
    nothing = torch.full_like(next(iter(parts.values())), torch.nan)
    return torch.stack([parts.get(i, nothing) for i in range(len(pairs))])
