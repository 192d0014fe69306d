"""Score batches: one forward and backward pass for all samples, or sample by sample where a model defies that."""

from collections.abc import Mapping

import torch

from prism.data import Batch
from prism.errors import ModelError
from prism.model import Model, sample_losses, token_losses
from prism.model.head import head_of
from prism.model.scaled import SUMMED, LossScale
from prism.scoring.engine import BatchScores
from prism.scoring.narrow import narrowed
from prism.scoring.products import wide
from prism.scoring.taps import Taps, Untappable

Gradients = dict[str, torch.Tensor]


class StreamingEngine:
    """Exact scores of a whole batch in one forward and backward pass, through `Taps`.

    Args:
        directions: parameter name → [K, *shape].
        norms: also squared gradient norms.
        sizes: [K], by which scores are multiplied where the directions were `narrowed` before.
    """

    name = "backward"
    scale: LossScale | None = None

    def __init__(
        self, model: Model, directions: Mapping[str, torch.Tensor], norms: bool, sizes: torch.Tensor | None = None
    ) -> None:
        self._model = model
        head_of(model.network)  # tries the network out, which the taps should not see
        if sizes is None:
            directions, sizes = narrowed(model, directions)
        self._sizes = sizes
        self.taps = Taps(model.network, directions, norms)
        self.scale = LossScale(model, SUMMED)
        self._count = next(iter(directions.values())).shape[0]

    def run(self, batch: Batch) -> torch.Tensor:
        """One pass; leaves the products in `taps` and returns the losses [B]."""
        scale = self._scale
        with torch.enable_grad(), self.taps.watch(batch):
            losses = token_losses(self._model.network, batch, scale)
            if losses.requires_grad:
                torch.autograd.backward(losses.sum() * scale)
        return sample_losses(losses.detach(), batch)

    def settle(self, batch: Batch) -> torch.Tensor:
        """`run`, with the loss scale lowered until nothing overflows."""
        losses = self.run(batch)
        while bool(overflowed(self._scored(losses)).any()) and self.scale and self.scale.lower():
            losses = self.run(batch)
        return losses

    def scores(self) -> dict[str, torch.Tensor]:
        """Parameter name → scores [B, K] of the last pass; without parameters that no loss depended on."""
        factor = self._sizes / self._scale if self.scale else None
        return {name: part if factor is None else part * factor for name, part in self.taps.scores().items()}

    def squares(self) -> dict[str, torch.Tensor]:
        """Parameter name → squared gradient norms [B] of the last pass."""
        return {name: part / self._scale**2 for name, part in self.taps.squares().items()}

    def score(self, batch: Batch) -> BatchScores:
        """Samples whose numbers overflow in float16 are scored again with a smaller loss scale, the others not: what a
        sample gets does not depend on its neighbours.

        Raises:
            ModelError: the model does in this batch what it did not do in the check.
        """
        kept = self.scale
        try:
            result = self._scored(self.run(batch))
            while bool((over := overflowed(result)).any()) and self.scale:
                self.scale = self.scale.copy()
                if not self.scale.lower():
                    break
                result = _filled(result, over, self._scored(self.run(batch)))
            return result
        except Untappable as error:
            raise ModelError(f"{error}, though it could be for the check samples: choose other --parameters") from error
        finally:
            self.scale = kept

    @property
    def _scale(self) -> float:
        return self.scale.value if self.scale else 1.0

    def _scored(self, losses: torch.Tensor) -> BatchScores:
        parts = self.scores()
        total = sum((parts[name] for name in sorted(parts)), losses.new_zeros(len(losses), self._count))
        norms = None
        if self.taps.norms:
            squares = self.squares()
            norms = sum((squares[name] for name in sorted(squares)), losses.new_zeros(len(losses))).clamp(min=0).sqrt()
        return BatchScores(losses, total, norms)


def overflowed(result: BatchScores) -> torch.Tensor:
    """Which samples [B] have a finite loss, but a score or norm that is not finite."""
    finite = result.scores.isfinite().all(1)
    if result.norms is not None:
        finite &= result.norms.isfinite()
    return result.losses.isfinite() & ~finite


def _filled(result: BatchScores, where: torch.Tensor, other: BatchScores) -> BatchScores:
    norms = None
    if result.norms is not None and other.norms is not None:
        norms = torch.where(where, other.norms, result.norms)
    return BatchScores(result.losses, torch.where(where[:, None], other.scores, result.scores), norms)


class LoopEngine:
    """The same by plain autograd, one sample at a time: slow, right for any model."""

    name = "per-sample"

    def __init__(
        self, model: Model, directions: Mapping[str, torch.Tensor], norms: bool, sizes: torch.Tensor | None = None
    ) -> None:
        self._model, self._directions, self._norms, self._sizes = model, directions, norms, sizes
        self._count = next(iter(directions.values())).shape[0]

    def score(self, batch: Batch) -> BatchScores:
        results = [self._one(single(batch, i)) for i in range(len(batch))]
        losses, scores, norms = zip(*results, strict=True)
        total = torch.stack(scores) if self._sizes is None else torch.stack(scores) * self._sizes
        return BatchScores(torch.stack(losses), total, torch.stack(norms) if self._norms else None)

    def _one(self, sample: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, gradients = sample_gradients(self._model, sample)
        scores, square = loss.new_zeros(self._count), loss.new_zeros(())
        for name, gradient in gradients.items():
            scores = scores + wide(self._directions[name]).flatten(1) @ wide(gradient).flatten()
            square = square + wide(gradient).square().sum()
        return loss, scores, square.sqrt()


def sample_gradients(model: Model, sample: Batch, index: int | None = None) -> tuple[torch.Tensor, Gradients]:
    """Summed loss of one sample, alone or the one at `index` of a batch, and its gradient by parameter, by autograd;
    unused parameters are left out."""
    scale = LossScale(model, SUMMED)
    with torch.enable_grad(), model.requiring_grad():
        while True:
            losses = token_losses(model.network, sample, scale.value)
            loss = losses.sum() if index is None else sample_losses(losses, sample)[index]
            found = scale.gradients(loss)
            if not loss.isfinite() or scale.served(found):
                break
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
