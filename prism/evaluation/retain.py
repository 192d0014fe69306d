"""Perplexity on rows that a training should not have hurt."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, Encoder, Row, collate, open_pool
from prism.data.rows import content_hash
from prism.data.sources import Source, each_record, open_sources
from prism.errors import BadRow, DataError, RowError, stopped_at
from prism.evaluation.bootstrap import Figure, figure, resampled_sums
from prism.model import Model, sample_losses, token_losses
from prism.model.memory import in_fitting_batches
from prism.progress import Progress, Silent

Floats = npt.NDArray[np.float64]
TOGETHER = 512  # rows encoded at once
NONE: Figure = {"value": None, "low": None, "high": None}


@dataclass(frozen=True)
class RetainLosses:
    """Each row's summed loss in nats, NaN where it is not finite, and how many tokens that is of: [rows]."""

    losses: Floats
    tokens: Floats
    rejected: list[BadRow]

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = np.isfinite(self.losses)
        return found

    def figures(self, resamples: int, seed: int) -> dict[str, Figure]:
        """`loss`, in nats per token over all tokens, and `perplexity`, its exponential; intervals over rows."""
        return _over_tokens(self.losses, self.tokens, self.finite, resamples, seed, "perplexity")

    def minus(self, base: "RetainLosses", resamples: int, seed: int) -> dict[str, Figure]:
        """Paired: the difference of `loss` to another model's, and the `perplexity_ratio` that it makes."""
        both = self.finite & base.finite
        return _over_tokens(self.losses - base.losses, self.tokens, both, resamples, seed, "perplexity_ratio")


def _over_tokens(
    losses: Floats, tokens: Floats, rows: npt.NDArray[np.bool_], resamples: int, seed: int, exponential: str
) -> dict[str, Figure]:
    values = np.stack([losses[rows], tokens[rows]], 1)
    if not len(values):
        return {"loss": NONE, exponential: NONE}
    sums = resampled_sums(values, resamples if len(values) > 1 else 0, seed)
    mean, means = values[:, 0].sum() / values[:, 1].sum(), sums[:, 0] / sums[:, 1]
    return {"loss": figure(mean, means), exponential: figure(float(np.exp(mean)), np.exp(means))}


@torch.no_grad()
def measure_retained(
    model: Model,
    places: Sequence[str],
    encoder: Encoder,
    *,
    columns: dict[str, str] | None = None,
    on_bad_row: str = "skip",
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> RetainLosses:
    """Losses of the rows of `places`: of the response tokens of pool rows, and of every token of rows with a `text`.

    Texts beyond the longest sample are measured in pieces of that length, none of which sees the one before.

    Raises:
        DataError: no row can be used, or none has a finite loss.
    """
    progress = progress or Silent()
    losses: list[float] = []
    tokens: list[int] = []
    rejected: list[BadRow] = []
    progress.start("retain", sum(1 for source in open_sources(list(places)) for _ in source.read()))

    def good() -> Iterator[list[Encoded]]:
        for row in _read(places, encoder, columns or {}):
            if not isinstance(row, BadRow):
                yield row
            elif on_bad_row == "stop":
                raise stopped_at(row)
            else:
                rejected.append(row)

    rows = good()
    while part := list(islice(rows, TOGETHER)):
        pieces = [piece for row in part for piece in row]
        begins = [place == 0 for row in part for place in range(len(row))]
        found = _losses(model, pieces, begins, batch_tokens, progress)
        ends = np.cumsum([len(row) for row in part])[:-1]
        losses += [float(piece.sum()) for piece in np.split(found, ends)]
        tokens += [sum(piece.response_tokens for piece in row) for row in part]
    if not losses:
        names = ", ".join(places)
        first = f": all {len(rejected)} were rejected; the first: {rejected[0]}" if rejected else ""
        raise DataError(f"the retain set {names} holds no rows that can be used{first}")
    measured = RetainLosses(np.array(losses), np.array(tokens, dtype=np.float64), rejected)
    if not measured.finite.any():
        raise DataError("no row of the retain set has a finite loss under this model: are its weights NaN?")
    return measured


def retained_rows(places: Sequence[str], columns: dict[str, str]) -> Iterator[Row]:
    """The rows of a retain set without a model, texts as answers to nothing; those that can't be used are left out."""
    for source in open_sources(list(places)):
        if _of_texts(source):
            found: Iterable[Row | BadRow] = each_record([source], _text_row)
        else:
            found = open_pool([source.name], columns=columns).read()
        yield from (row for row in found if isinstance(row, Row))


def _text_row(record: Mapping[str, Any], source: Source, line: int) -> Row:
    said = ({"role": "assistant", "content": _text_of(record)},)
    return Row(f"{source.stem}:{line}", said, False, source.stem, content_hash(said), source.name, line, 0, record)


def _losses(
    model: Model, samples: Sequence[Encoded], begins: Sequence[bool], batch_tokens: int, progress: Progress
) -> Floats:
    """Summed losses [samples]; NaN for one that is too long for the memory. `begins`: which of them begin a row."""
    lengths, losses = [len(sample) for sample in samples], np.full(len(samples), np.nan)

    def run(places: list[int]) -> Floats:
        batch = collate([samples[i] for i in places]).to(model.device)
        return sample_losses(token_losses(model.network, batch), batch).double().cpu().numpy()

    def take(places: list[int], found: Floats | None) -> None:
        if found is not None:
            losses[places] = found
        progress.advance(sum(begins[i] for i in places), sum(lengths[i] for i in places))

    in_fitting_batches(lengths, batch_tokens, run, take)
    return losses


def _read(places: Sequence[str], encoder: Encoder, columns: dict[str, str]) -> Iterator[list[Encoded] | BadRow]:
    """Every row as one or more samples; a source whose first record has a `text` and no other form is one of texts."""
    for source in open_sources(list(places)):
        if _of_texts(source):
            yield from each_record([source], lambda record, *_: _pieces_of(record, encoder))
        else:
            for row in open_pool([source.name], columns=columns).read():
                if isinstance(row, BadRow):
                    yield row
                    continue
                try:
                    yield [encoder.row(row)]
                except RowError as error:
                    yield BadRow(row.file, row.line, str(error), row.id)


def _of_texts(source: Source) -> bool:
    records = (item[1] for item in source.read() if item is not None)
    first = next((record for record in records if not isinstance(record, RowError)), None)
    return first is not None and "text" in first and not {"messages", "conversations", "completion"} & first.keys()


def _pieces_of(record: Mapping[str, Any], encoder: Encoder) -> list[Encoded]:
    return list(_pieces(_text_of(record), encoder))


def _text_of(record: Mapping[str, Any]) -> str:
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        raise RowError("text is missing or empty")
    return text


def _pieces(text: str, encoder: Encoder) -> Iterator[Encoded]:
    """A text's tokens, all but the first of each piece with loss."""
    ids = np.asarray(encoder.tokenizer(text, verbose=False)["input_ids"], dtype=np.int64)
    if len(ids) < 2:
        raise RowError("text is a single token, which nothing predicts")
    if encoder.vocabulary is not None and (top := int(ids.max())) >= encoder.vocabulary:
        raise RowError(f"the tokenizer makes token id {top}, but the model has only {encoder.vocabulary} embeddings")
    for start in range(0, len(ids), encoder.max_length):
        piece = ids[start : start + encoder.max_length]
        if len(piece) > 1:
            yield Encoded(piece, np.arange(len(piece)) > 0)
