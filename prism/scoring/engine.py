"""Score batches: one forward and backward pass for all samples, or sample by sample where a model defies that."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from prism.data import Batch, Encoded, collate
from prism.errors import ModelError
from prism.model import Model, sample_losses, token_losses
from prism.scoring.products import wide
from prism.scoring.taps import Taps, Untappable
from prism.target import Direction

# How far the streaming pass may be from autograd, relative to each parameter's squared gradient norm.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}


@dataclass(frozen=True)
class BatchScores:
    """losses [B], summed over response tokens, in nats; scores [B, K]; norms [B] of the sample gradients, or None."""

    losses: torch.Tensor
    scores: torch.Tensor
    norms: torch.Tensor | None


class Engine(Protocol):
    """Scores samples against the directions that it was made for."""

    name: str

    def score(self, batch: Batch) -> BatchScores: ...


class StreamingEngine:
    """Exact scores of a whole batch in one forward and backward pass, through `Taps`."""

    name = "streaming"

    def __init__(self, model: Model, directions: Mapping[str, torch.Tensor], norms: bool) -> None:
        self._model = model
        self.taps = Taps(model.network, directions, norms)
        self._count = next(iter(directions.values())).shape[0]

    def run(self, batch: Batch) -> torch.Tensor:
        """One pass; leaves the products in `taps` and returns the losses [B]."""
        with torch.enable_grad(), self.taps.watch(batch):
            losses = token_losses(self._model.network, batch)
            if losses.requires_grad:
                torch.autograd.backward(losses.sum())
        return sample_losses(losses.detach(), batch)

    def score(self, batch: Batch) -> BatchScores:
        """Raises ModelError where the model does in this batch what it did not do in the check."""
        try:
            losses = self.run(batch)
        except Untappable as error:
            raise ModelError(f"{error}, though it could be for the check samples: choose other --parameters") from error
        parts = self.taps.scores()
        total = sum((parts[name] for name in sorted(parts)), losses.new_zeros(len(batch), self._count))
        norms = None
        if self.taps.norms:
            squares = self.taps.squares()
            norms = sum((squares[name] for name in sorted(squares)), losses.new_zeros(len(batch))).clamp(min=0).sqrt()
        return BatchScores(losses, total, norms)


class LoopEngine:
    """The same by plain autograd, one sample at a time: slow, right for any model."""

    name = "per-sample"

    def __init__(self, model: Model, directions: Mapping[str, torch.Tensor], norms: bool) -> None:
        self._model, self._directions, self._norms = model, directions, norms
        self._count = next(iter(directions.values())).shape[0]

    def score(self, batch: Batch) -> BatchScores:
        results = [self._one(single(batch, i)) for i in range(len(batch))]
        losses, scores, norms = zip(*results, strict=True)
        return BatchScores(torch.stack(losses), torch.stack(scores), torch.stack(norms) if self._norms else None)

    def _one(self, sample: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, gradients = sample_gradients(self._model, sample)
        scores, square = loss.new_zeros(self._count), loss.new_zeros(())
        for name, gradient in gradients.items():
            scores = scores + wide(self._directions[name]).flatten(1) @ wide(gradient).flatten()
            square = square + wide(gradient).square().sum()
        return loss, scores, square.sqrt()


def sample_gradients(model: Model, sample: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Summed loss of one sample and its gradient by parameter, by autograd; unused parameters are left out."""
    with torch.enable_grad(), model.requiring_grad():
        loss = token_losses(model.network, sample).sum()
        found = torch.autograd.grad(loss, list(model.parameters.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(model.parameters, found, strict=True) if g is not None}
    return loss.detach(), gradients


def single(batch: Batch, index: int) -> Batch:
    """One sample of a batch, without its padding."""
    length, width = int(batch.mask[index].sum()), batch.ids.shape[1]
    mine = batch.owner == index
    return Batch(
        ids=batch.ids[index : index + 1, :length],
        mask=batch.mask[index : index + 1, :length],
        predictors=batch.predictors[mine] - index * width,
        labels=batch.labels[mine],
        owner=torch.zeros_like(batch.owner[mine]),
    )


def choose_engine(
    model: Model, directions: Sequence[Direction], *, norms: bool, probes: Sequence[Encoded]
) -> tuple[Engine, str]:
    """The streaming engine where it proves itself on `probes`, else the loop; with a sentence that says which and why.

    The proof: with a sample's own autograd gradient as the direction, the streamed product of every parameter must be
    that parameter's squared gradient norm, in a batch with a longer neighbour. A parameter that a model uses behind its
    module's back shows at once. Samples with NaN prove nothing: the next one is asked.
    """
    reason = "no check sample has a finite gradient"
    by_length = sorted(probes, key=len)
    for probe in by_length[len(by_length) // 2 :] + by_length[: len(by_length) // 2]:
        try:
            worst, name = self_check(model, collate([probe, by_length[-1]]).to(model.device))
        except Untappable as error:
            reason = str(error)
            break
        if worst <= TOLERANCE.get(model.dtype, 5e-2):
            said = f"streaming engine; largest error on a check sample {worst:.1e}"
            return StreamingEngine(model, _stacked(model, directions, like_weights=True), norms), said
        if not math.isnan(worst):
            reason = f"{name} is off by {worst:.1e} of its squared gradient norm"
            break
    said = f"per-sample engine, exact but slow, since streaming can't be used: {reason}"
    return LoopEngine(model, _stacked(model, directions, like_weights=False), norms), said


def _stacked(model: Model, directions: Sequence[Direction], like_weights: bool) -> dict[str, torch.Tensor]:
    return {
        name: torch.stack([d.tensors[name] for d in directions]).to(model.device, p.dtype if like_weights else None)
        for name, p in model.parameters.items()
    }


def self_check(model: Model, batch: Batch) -> tuple[float, str]:
    """(largest relative error, parameter) of the streaming engine against autograd, by parameter, on the first sample
    of a batch; (NaN, "") where that sample's loss or gradient is not finite.

    Raises:
        Untappable: the streaming engine can't be used for this model and these parameters.
    """
    loss, gradients = sample_gradients(model, single(batch, 0))
    squares = {name: float(wide(g).square().sum()) for name, g in gradients.items()}
    if not (loss.isfinite() and all(map(math.isfinite, squares.values()))):
        return math.nan, ""
    zero = {name: torch.zeros_like(p) for name, p in model.parameters.items() if name not in gradients}
    engine = StreamingEngine(model, {n: g.unsqueeze(0) for n, g in {**gradients, **zero}.items()}, norms=True)
    engine.run(batch)
    products, streamed = engine.taps.scores(), engine.taps.squares()
    smallest = 1e-12 * max(squares.values(), default=0.0)
    worst, where = 0.0, ""
    for name, square in squares.items():
        got = (float(products[name][0, 0]), float(streamed[name][0])) if name in products else (0.0, 0.0)
        scale = max(square, smallest)
        error = max(abs(value - square) / scale for value in got) if scale else 0.0
        if not error <= worst:  # NaN counts as the worst
            worst, where = error if math.isfinite(error) else math.inf, name
    return worst, where
