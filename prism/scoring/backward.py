"""Score batches: one forward and backward pass for all samples, or sample by sample where a model defies that."""

from collections.abc import Mapping

import torch

from prism.data import Batch
from prism.errors import ModelError
from prism.model import Model, sample_losses, token_losses
from prism.model.head import head_of
from prism.scoring.engine import BatchScores
from prism.scoring.products import wide
from prism.scoring.taps import Taps, Untappable


class StreamingEngine:
    """Exact scores of a whole batch in one forward and backward pass, through `Taps`."""

    name = "backward"

    def __init__(self, model: Model, directions: Mapping[str, torch.Tensor], norms: bool) -> None:
        self._model = model
        head_of(model.network)  # tries the network out, which the taps should not see
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
