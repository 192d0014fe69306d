"""The samples that a curvature is fitted on, each with the labels that its loss is taken at."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from prism.data import Batch, Encoded, Encoder, Pool, collate
from prism.errors import BadRow, DataError, RowError
from prism.model import Model, token_losses
from prism.model.head import head_of
from prism.model.memory import in_fitting_batches
from prism.progress import Progress

Labels = Literal["model", "data"]
PART = 1 << 24  # logits held at once while labels are drawn


@dataclass(frozen=True)
class FitSamples:
    """Samples with a finite loss that fit into the memory; `labels` of their response tokens; `left_out` of the rows
    that were chosen; `budget`, the padded tokens of a batch that the memory had room for."""

    encoded: list[Encoded]
    labels: list[torch.Tensor]
    drawn: Labels
    left_out: int
    budget: int

    def __str__(self) -> str:
        left = f" ({self.left_out} more can't be used)" if self.left_out else ""
        whose = "drawn from the model (true Fisher)" if self.drawn == "model" else "of the data (empirical Fisher)"
        return f"{len(self.encoded):,} samples{left}, {sum(self.lengths):,} tokens, with labels {whose}"

    def batch(self, places: Sequence[int], device: torch.device) -> Batch:
        batch = collate([self.encoded[i] for i in places])
        return replace(batch, labels=torch.cat([self.labels[i] for i in places])).to(device)

    @property
    def lengths(self) -> list[int]:
        return [len(e) for e in self.encoded]


def choose_rows(pool: Pool, count: int, seed: int) -> Iterator[object]:
    """`count` rows evenly over the pool, one drawn out of each of so many equal parts; all rows where there are no
    more."""
    read = len(pool) + len(pool.rejected)
    if len(pool) <= count:
        return iter(pool)
    bounds = np.arange(count + 1) * read // count
    places = bounds[:-1] + (np.random.default_rng(seed).random(count) * np.diff(bounds)).astype(np.int64)
    return pool.pick(places.tolist())


def fit_samples(
    model: Model,
    pool: Pool,
    encoder: Encoder,
    *,
    count: int,
    labels: Labels,
    seed: int,
    batch_tokens: int,
    progress: Progress,
) -> FitSamples:
    """Choose rows, and run the model once over them: to draw labels, and to leave out what has no finite loss.

    Labels drawn from the model make the expected squared gradient the true Fisher, which for this loss is the
    Gauss-Newton matrix; each sample has random numbers of its own, so that they depend on no batching.

    Raises:
        DataError: no row can be used.
    """
    encoded: list[Encoded] = []
    chosen = 0
    for row in choose_rows(pool, count, seed):
        chosen += 1
        if not isinstance(row, BadRow):
            with suppress(RowError):
                encoded.append(encoder.row(row))  # type: ignore[arg-type]
    kept: list[torch.Tensor | None] = [None] * len(encoded)
    lengths = [len(e) for e in encoded]
    head_of(model.network)

    def run(places: list[int]) -> list[torch.Tensor | None]:
        uniform = [np.random.default_rng([seed, i]).random(encoded[i].response_tokens) for i in places]
        batch = collate([encoded[i] for i in places]).to(model.device)
        with torch.no_grad():
            found = (
                _drawn(model, batch, torch.from_numpy(np.concatenate(uniform)).to(model.device, _wide(model)))
                if labels == "model"
                else torch.where(token_losses(model.network, batch).isfinite(), batch.labels, -1)
            )
        parts = torch.split(found.cpu(), [encoded[i].response_tokens for i in places])
        return [None if bool((part < 0).any()) else part for part in parts]

    def take(places: list[int], found: list[torch.Tensor | None] | None) -> None:
        for place, part in zip(places, found or [None] * len(places), strict=True):
            kept[place] = part
        progress.advance(len(places), sum(lengths[i] for i in places))

    progress.start("curvature: samples", len(encoded))
    budget = in_fitting_batches(lengths, batch_tokens, run, take)
    usable = [(e, part) for e, part in zip(encoded, kept, strict=True) if part is not None]
    if not usable:
        raise DataError(
            f"none of the {chosen} rows that the curvature would be fitted on has a finite loss within the memory: "
            "are the model's weights NaN, or is --max-length too long?"
        )
    return FitSamples([e for e, _ in usable], [part for _, part in usable], labels, chosen - len(usable), budget)


def _wide(model: Model) -> torch.dtype:
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def _drawn(model: Model, batch: Batch, uniform: torch.Tensor) -> torch.Tensor:
    """A label for each response token from the model's own distribution, by its cumulative one at `uniform` [N];
    -1 where that is not finite."""
    head = head_of(model.network)
    if head is None:
        logits = model.network(input_ids=batch.ids, use_cache=False).logits.flatten(0, 1)[batch.predictors]
        return _at(logits, uniform)
    hidden = head.hidden_states(batch.ids).flatten(0, 1)[batch.predictors]
    most = max(1, PART // head.vocabulary)
    parts = zip(torch.split(hidden, most), torch.split(uniform, most), strict=True)
    return torch.cat([_at(head.logits(states), u) for states, u in parts])


def _at(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    cumulative = torch.softmax(logits.to(uniform), -1).cumsum(-1)
    total = cumulative[:, -1:]
    labels = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    return torch.where(total[:, 0].isfinite(), labels, -1)
