"""Scores of mapped sample gradients, <Gamma(g_z), V_k>, for maps that are not linear, such as Adam's.

Such a map needs the gradients themselves, so they are formed: of one parameter at a time, for some samples at a time,
as soon as all that adds to it has arrived in the backward pass, and let go of after the products. That costs a product
of matrices as large as that for the weight gradient, and passes over [samples, *shape]; docs/checkpoints.md says how
much that is.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from prism.data import Batch, Encoded
from prism.model import Model
from prism.model.head import head_of
from prism.model.scaled import SUMMED, LossScale
from prism.scoring.backward import LoopEngine, StreamingEngine, sample_gradients
from prism.scoring.check import first_check, tolerance_of
from prism.scoring.engine import Engine
from prism.scoring.formed import FormingLedger, Reused, mapped_products
from prism.scoring.maps import AdamMap, CandidateMap, IdentityMap, Moments, SignMap
from prism.scoring.products import wide
from prism.scoring.taps import Taps, Untappable

__all__ = [
    "AdamMap",
    "CandidateMap",
    "IdentityMap",
    "MappedEngine",
    "MappedLoop",
    "Moments",
    "SignMap",
    "mapped_engine",
]


class MappedEngine(StreamingEngine):
    """One forward and backward pass for a whole batch: scores <Gamma(g_z), V_k>, norms ||Gamma(g_z)||.

    Args:
        directions: parameter name → [K, *shape].
        mean_loss: g_z is the gradient of the mean loss of the response tokens, not of their sum.

    Raises:
        Untappable: a parameter is used in an unknown way; `MappedLoop` is for those.
    """

    name = "mapped"

    def __init__(
        self,
        model: Model,
        directions: Mapping[str, torch.Tensor],
        mapping: CandidateMap,
        *,
        mean_loss: bool,
        norms: bool,
    ) -> None:
        self._model, self._mapping, self._mean_loss = model, mapping, mean_loss
        head_of(model.network)  # tries the network out, which the taps should not see
        self.taps = Taps(model.network, directions, norms, self._ledger)
        self.scale = LossScale(model, SUMMED)
        self._several = set(self.taps.shared())
        self._at_rest: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
        self._count = next(iter(directions.values())).shape[0]

    def run(self, batch: Batch) -> torch.Tensor:
        """One pass, or several until it is known which parameters are used more than once in a pass."""
        while True:
            try:
                return super().run(batch)
            except Reused as found:
                self._several |= found.names

    def scores(self) -> dict[str, torch.Tensor]:
        return self.taps.scores()

    def squares(self) -> dict[str, torch.Tensor]:
        return self.taps.squares()

    def _ledger(
        self,
        batch: Batch,
        directions: Mapping[str, torch.Tensor],
        norms: bool,
        outside: Collection[nn.Module],
        tied: Collection[str],
    ) -> FormingLedger:
        scale = _share(batch, self._mean_loss) / self._scale
        return FormingLedger(batch, directions, norms, outside, self._mapping, scale, self._several, self._at_rest)


class MappedLoop(LoopEngine):
    """The same by plain autograd, one sample at a time: slow, right for any model."""

    name = "mapped per-sample"

    def __init__(
        self,
        model: Model,
        directions: Mapping[str, torch.Tensor],
        mapping: CandidateMap,
        *,
        mean_loss: bool,
        norms: bool,
    ) -> None:
        super().__init__(model, directions, norms)
        self._mapping, self._mean_loss = mapping, mean_loss

    def _one(self, sample: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, gradients = sample_gradients(self._model, sample)
        scores, square = loss.new_zeros(self._count), loss.new_zeros(())
        for name, parameter in self._model.parameters.items():
            gradient = wide(gradients.pop(name, torch.zeros_like(parameter)))
            if self._mean_loss:
                gradient = gradient / len(sample.labels)
            products, squares = mapped_products(self._mapping, name, gradient[None], self._directions[name], True)
            assert squares is not None
            scores, square = scores + products[0], square + squares[0]
        return loss, scores, square.sqrt()


def mapped_engine(
    model: Model,
    directions: Mapping[str, torch.Tensor],
    mapping: CandidateMap,
    *,
    mean_loss: bool,
    norms: bool,
    probes: Sequence[Encoded],
) -> tuple[Engine, str]:
    """The one-pass engine where it proves itself on `probes`, else the loop; with a sentence that says which and why.

    The proof: every parameter's gradient as it is formed must be what autograd finds for the sample alone.

    Raises:
        ModelError: the model can't be differentiated, or a sample's loss is not a function of the sample alone.
    """

    def unmapped(model: Model, v: Mapping[str, torch.Tensor], norms: bool) -> MappedEngine:
        return MappedEngine(model, v, IdentityMap(), mean_loss=False, norms=norms)

    try:
        worst, name = first_check(model, probes, unmapped)
        if worst <= tolerance_of(model):
            engine = MappedEngine(model, directions, mapping, mean_loss=mean_loss, norms=norms)
            return (
                engine,
                f"mapped engine: gradients are formed by parameter; largest error on a check sample {worst:.1e}",
            )
        reason = f"{name} is off by {worst:.1e} of its squared gradient norm"
        if math.isnan(worst):
            reason = "no check sample has a finite gradient"
    except Untappable as error:
        reason = str(error)
    said = f"mapped per-sample engine, exact but slow, since one pass for all can't be used: {reason}"
    return MappedLoop(model, directions, mapping, mean_loss=mean_loss, norms=norms), said


def _share(batch: Batch, mean_loss: bool) -> torch.Tensor:
    """What the gradient of each sample's summed loss is multiplied by: [B]."""
    tokens = torch.bincount(batch.owner, minlength=len(batch)).double()
    return 1 / tokens if mean_loss else torch.ones_like(tokens)
