"""Measure the target pairs at the model as it is, and make the direction that they point to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, Encoder, Pair, Target, collate
from prism.errors import BadRow, DataError, RowError, stopped_at
from prism.model import Model, sample_losses, token_losses
from prism.model.memory import in_fitting_batches
from prism.model.scaled import AVERAGED, LossScale
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
Measured = tuple[npt.NDArray[np.float64], Sequence[torch.Tensor | None]]


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
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> MeasuredTarget:
    """Preferences of all pairs and g_KL = (1/|Q|) sum_q pi_q (grad l(y+) - grad l(y-)), in one pass (METHOD eqs 4-6).

    pi is a constant in the gradient. Pairs with a loss that is not finite, and those that are too long for the
    memory even alone, are flagged and left out of the direction.

    Raises:
        DataError: no pair is left, none fits into the memory or has a finite loss, or the direction is not finite.
    """
    progress = progress or Silent()
    pairs, encoded, rejected = encode_pairs(target, encoder)
    lengths = pair_lengths(encoded)
    losses, fits = np.full((2, len(pairs)), np.nan), np.ones(len(pairs), dtype=bool)
    sums = {name: torch.zeros_like(p, dtype=_wide(p.dtype)) for name, p in model.parameters.items()}

    scale = LossScale(model, AVERAGED)

    def measure(places: list[int]) -> Measured:
        return _measure(model, [encoded[i] for i in places], 1 / len(pairs), scale)

    def take(places: list[int], measured: Measured | None) -> None:
        if measured is None:
            fits[places] = False
        else:
            losses[:, places], gradients = measured
            for total, gradient in zip(sums.values(), gradients, strict=True):
                if gradient is not None:
                    total += gradient
        progress.advance(len(places), sum(lengths[i] for i in places))

    progress.start("target", len(pairs))
    with model.requiring_grad():
        budget = in_fitting_batches(lengths, batch_tokens, measure, take)
    if budget < batch_tokens:
        progress.note(f"out of memory: the target was measured in batches of at most {budget} tokens")
    if not fits.any():
        raise DataError(
            f"none of the {len(pairs)} target pairs fits into the memory: lower --max-length, or choose a narrower "
            "--dtype or fewer --parameters"
        )
    chosen_loss, rejected_loss = losses
    pi = preference(torch.from_numpy(chosen_loss), torch.from_numpy(rejected_loss)).numpy()
    finite = np.isfinite(losses).all(0)
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
            [_flag(e, ok, fit) for e, ok, fit in zip(encoded, finite, fits, strict=True)],
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


def mean_losses(model: Model, pairs: Sequence[EncodedPair], scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(l(y+), l(y-)) of a batch of pairs, each [pairs]: mean loss per response token, in nats; `scale` as in
    `token_losses`."""
    batch = collate([c for c, _ in pairs] + [r for _, r in pairs]).to(model.device)
    counts = torch.bincount(batch.owner, minlength=len(batch))
    means = sample_losses(token_losses(model.network, batch, scale), batch) / counts
    return means[: len(pairs)], means[len(pairs) :]


def _measure(model: Model, pairs: Sequence[EncodedPair], share: float, scale: LossScale) -> Measured:
    """((l(y+), l(y-)) [2, pairs], gradients of share * sum_q pi_q (l(y+) - l(y-)) by parameter) of some pairs.

    The share is in the graph, as in K itself: models that compute parts in float32 round both alike.
    """
    chosen, rejected = mean_losses(model, pairs, scale.alone)
    losses = torch.stack([chosen, rejected]).detach()
    finite = losses.isfinite().all(0)
    gradients: Sequence[torch.Tensor | None] = [None] * len(model.parameters)
    if bool(finite.all()):
        weights = preference(chosen, rejected).detach()
        gradients = scale.gradients(share * (weights * (chosen - rejected)).sum())
        if not scale.served(gradients):
            return _measure(model, pairs, share, scale)
    elif bool(finite.any()):  # 0 * NaN is NaN: the broken pairs must not enter the graph at all
        _, gradients = _measure(model, [p for p, ok in zip(pairs, finite.tolist(), strict=True) if ok], share, scale)
    return losses.double().cpu().numpy(), gradients


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _flag(pair: EncodedPair, finite: bool, fits: bool) -> str:
    if not fits:
        return "too-long"
    if not finite:
        return "non-finite"
    return "truncated" if any(side.truncated for side in pair) else "ok"
