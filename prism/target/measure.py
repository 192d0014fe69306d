"""Measure the target pairs at the model as it is, and make the direction that they point to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from prism.data import Encoded, Encoder, Pair, Target, collate, plan_batches
from prism.errors import BadRow, DataError, RowError, stopped_at
from prism.model import Model, sample_losses, token_losses
from prism.progress import Progress, Silent
from prism.target.direction import Direction
from prism.target.preference import preference

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("preference", pa.float64()),
        ("weight", pa.float64()),
        ("loss_chosen", pa.float64()),
        ("loss_rejected", pa.float64()),
        ("tokens_chosen", pa.int32()),
        ("tokens_rejected", pa.int32()),
        ("flag", pa.string()),
        ("prompt", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
    ]
)
EncodedPair = tuple[Encoded, Encoded]


@dataclass(frozen=True)
class MeasuredTarget:
    """A target at one checkpoint: the table (`SCHEMA`, losses in nats per token), the direction, the rows set aside."""

    table: pa.Table
    direction: Direction
    rejected: list[BadRow]


def measure_target(
    model: Model,
    target: Target,
    encoder: Encoder,
    *,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> MeasuredTarget:
    """Preferences of all pairs and g_KL = (1/|Q|) sum_q pi_q (grad l(y+) - grad l(y-)), in one pass (METHOD eqs 4-6).

    pi is a constant in the gradient. Pairs with a loss that is not finite are flagged and left out of the direction.

    Raises:
        DataError: no pair is left, none has a finite loss, or the direction is not finite.
    """
    progress = progress or Silent()
    pairs, encoded, rejected = encode_pairs(target, encoder)
    lengths = pair_lengths(encoded)
    chosen_loss, rejected_loss = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    sums = {name: torch.zeros_like(p, dtype=_wide(p.dtype)) for name, p in model.parameters.items()}
    progress.start("target", len(pairs))
    with model.requiring_grad():
        for batch in plan_batches(lengths, batch_tokens):
            losses = _accumulate(model, [encoded[i] for i in batch], 1 / len(pairs), sums)
            chosen_loss[batch], rejected_loss[batch] = losses
            progress.advance(len(batch), sum(lengths[i] for i in batch))
    pi = preference(torch.from_numpy(chosen_loss), torch.from_numpy(rejected_loss)).numpy()
    finite = np.isfinite(chosen_loss) & np.isfinite(rejected_loss)
    if not finite.any():
        raise DataError("no target pair has a finite loss under this model: are its weights NaN?")
    count = int(finite.sum())
    direction = Direction(
        {name: total * (len(pairs) / count) for name, total in sums.items()}, {"pairs": count, "weights": "preference"}
    )
    if not direction.is_finite():
        bad = next(name for name, t in direction.tensors.items() if not t.isfinite().all())
        raise DataError(
            f"the target's gradient is not finite in {bad}: try --dtype float32, or check the model's weights"
        )
    if direction.norm() == 0:
        raise DataError("the target's gradient is zero in every chosen parameter: choose other --parameters")
    table = pa.table(
        [
            [p.id for p in pairs],
            pi,
            np.where(finite, pi, 0.0),
            chosen_loss,
            rejected_loss,
            [c.response_tokens for c, _ in encoded],
            [r.response_tokens for _, r in encoded],
            [_flag(e, ok) for e, ok in zip(encoded, finite, strict=True)],
            [p.chosen[-2]["content"] for p in pairs],
            [p.file for p in pairs],
            [p.line for p in pairs],
        ],
        schema=SCHEMA,
    )
    return MeasuredTarget(table, direction, rejected)


def encode_pairs(target: Target, encoder: Encoder) -> tuple[list[Pair], list[EncodedPair], list[BadRow]]:
    """(pairs, their encodings, rows set aside); raises DataError where none is left."""
    pairs, encoded, rejected = [], [], list(target.rejected)
    for pair in target:
        try:
            encoded.append(encoder.pair(pair))
        except RowError as error:
            rejected.append(BadRow(pair.file, pair.line, str(error), pair.id))
            if target.on_bad_row == "stop":
                raise stopped_at(rejected[-1]) from error
            continue
        pairs.append(pair)
    if not pairs:
        raise DataError(f"all {len(rejected)} rows of the target were rejected; the first: {rejected[0]}")
    return pairs, encoded, rejected


def pair_lengths(encoded: Sequence[EncodedPair]) -> list[int]:
    """Padded tokens that each pair takes in a batch."""
    return [2 * max(len(chosen), len(rejected)) for chosen, rejected in encoded]


def mean_losses(model: Model, pairs: Sequence[EncodedPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """(l(y+), l(y-)) of a batch of pairs, each [pairs]: mean loss per response token, in nats."""
    batch = collate([c for c, _ in pairs] + [r for _, r in pairs]).to(model.device)
    counts = torch.bincount(batch.owner, minlength=len(batch))
    means = sample_losses(token_losses(model.network, batch), batch) / counts
    return means[: len(pairs)], means[len(pairs) :]


def _accumulate(
    model: Model, pairs: Sequence[EncodedPair], share: float, sums: dict[str, torch.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Add share * sum_q pi_q (grad l(y+) - grad l(y-)) of these pairs to `sums`; returns (l(y+), l(y-)), each [pairs].

    The share is in the graph, as in K itself: models that compute parts in float32 round both alike.
    """
    chosen, rejected = mean_losses(model, pairs)
    finite = (chosen.isfinite() & rejected.isfinite()).detach()
    if bool(finite.all()):
        weights = preference(chosen, rejected).detach()
        objective = share * (weights * (chosen - rejected)).sum()
        grads = torch.autograd.grad(objective, list(model.parameters.values()), allow_unused=True)
        for total, grad in zip(sums.values(), grads, strict=True):
            if grad is not None:
                total += grad
    elif bool(finite.any()):  # 0 * NaN is NaN: the broken pairs must not enter the graph at all
        _accumulate(model, [p for p, ok in zip(pairs, finite.tolist(), strict=True) if ok], share, sums)
    return chosen.detach().double().cpu().numpy(), rejected.detach().double().cpu().numpy()


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _flag(pair: EncodedPair, finite: bool) -> str:
    if not finite:
        return "non-finite"
    return "truncated" if any(side.truncated for side in pair) else "ok"
