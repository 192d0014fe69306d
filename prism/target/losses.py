"""Encode target pairs, and take the losses of both sides."""

from collections.abc import Sequence

import numpy as np
import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, Encoder, Pair, Target, collate
from prism.errors import BadRow, DataError, RowError, stopped_at
from prism.model import Model, sample_losses, token_losses
from prism.model.memory import in_fitting_batches
from prism.target.weights import Floats

EncodedPair = tuple[Encoded, Encoded]


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


@torch.no_grad()
def all_losses(model: Model, target: Target, encoder: Encoder, *, batch_tokens: int = BATCH_TOKENS) -> Floats:
    """(l(y+), l(y-)) of all pairs of a target [2, pairs], in the order of `encode_pairs`; NaN where a pair is too long
    for the memory, or has no y-."""
    _, encoded, _ = encode_pairs(target, encoder)
    found = np.full((2, len(encoded)), np.nan)

    def run(places: list[int]) -> Floats:
        losses: Floats = torch.stack(mean_losses(model, [encoded[i] for i in places])).double().cpu().numpy()
        return losses

    def take(places: list[int], losses: Floats | None) -> None:
        if losses is not None:
            found[:, places] = losses

    in_fitting_batches(pair_lengths(encoded), batch_tokens, run, take)
    return found


def mean_losses(model: Model, pairs: Sequence[EncodedPair], scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(l(y+), l(y-)) of a batch of pairs, each [pairs]: mean loss per response token, in nats; NaN for a y- of length
    0. `scale` as in `token_losses`."""
    sides = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    there = torch.tensor([len(side) > 0 for side in sides])
    batch = collate([side for side in sides if len(side)]).to(model.device)
    counts = torch.bincount(batch.owner, minlength=len(batch))
    means = sample_losses(token_losses(model.network, batch, scale), batch) / counts
    if len(batch) < len(sides):
        means = means.new_full((len(sides),), torch.nan).masked_scatter(there.to(means.device), means)
    return means[: len(pairs)], means[len(pairs) :]
