"""Measure the target pairs at the model as it is, and make the direction that they point to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoder, Pair, Target
from prism.errors import BadRow, DataError
from prism.model import Model
from prism.model.memory import in_fitting_batches
from prism.model.scaled import AVERAGED, LossScale
from prism.progress import Progress, Silent
from prism.target.direction import Direction
from prism.target.losses import EncodedPair, encode_pairs, mean_losses, pair_lengths
from prism.target.objective import Objective
from prism.target.preference import preference
from prism.target.weights import Floats

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
        ("subtask", pa.string()),
        ("rejected_from", pa.string()),
    ]
)
Measured = tuple[Floats, Sequence[torch.Tensor | None]]
PRISM = Objective()


@dataclass(frozen=True)
class MeasuredTarget:
    """A target at one checkpoint: the table (`SCHEMA`, losses in nats per token), the rows set aside, and a direction
    for each group of items: one for all, named "", or one for each subtask."""

    table: pa.Table
    directions: Mapping[str, Direction]
    rejected: list[BadRow]

    @property
    def direction(self) -> Direction:
        """The only one."""
        (direction,) = self.directions.values()
        return direction


def measure_target(
    model: Model,
    target: Target,
    encoder: Encoder,
    *,
    objective: Objective = PRISM,
    reference: Floats | None = None,
    weighing: Floats | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> MeasuredTarget:
    """Preferences of all pairs and the gradient of their `objective`, in one pass: unless another is given,
    g_KL = (1/|Q|) sum_q pi_q (grad l(y+) - grad l(y-)) (METHOD eqs 4-6).

    Weights are constants in the gradient. Pairs with a loss that is not finite, and those that are too long for the
    memory even alone, are flagged and left out of the direction.

    Args:
        reference: mean-token losses [2, pairs] of the objective's reference model, in the order of `encode_pairs`.
        weighing: the same of a model whose preferences weigh the pairs, in place of this one's; they are the table's
            `preference`, and pairs that it has no finite losses of take no part.

    Raises:
        DataError: no pair is left, none fits into the memory or has a finite loss, or a direction is not finite.
    """
    progress = progress or Silent()
    pairs, encoded, rejected = encode_pairs(target, encoder)
    found = _Gradients(model, encoded, objective, reference, weighing)
    groups = _groups(pairs, objective.by_subtask)
    progress.start("target", len(pairs))
    budgets = [found.add(name, places, batch_tokens, progress) for name, places in groups.items()]
    if min(budgets) < batch_tokens:
        progress.note(f"out of memory: the target was measured in batches of at most {min(budgets)} tokens")
    if not found.fits.any():
        raise DataError(
            f"none of the {len(pairs)} target pairs fits into the memory: lower --max-length, or choose a narrower "
            "--dtype or fewer --parameters"
        )
    finite = found.finite
    if not finite.any():
        raise DataError("no target pair has a finite loss under this model: are its weights NaN?")
    for name in groups.keys() - found.directions.keys():
        progress.note(f"no pair of the subtask {name} has a finite loss: it is left out")
    for direction in found.directions.values():
        _require_sound(direction)
    flags = [_flag(e, ok, fit) for e, ok, fit in zip(encoded, finite, found.fits, strict=True)]
    weights = np.where(finite, found.item_weights(), 0.0)
    table = _table(pairs, encoded, found.losses, weights, flags, found.losses if weighing is None else weighing)
    return MeasuredTarget(table, found.directions, rejected)


def unmeasured_target(pairs: Sequence[Pair], encoded: Sequence[EncodedPair], rejected: list[BadRow]) -> MeasuredTarget:
    """Of a method that asks no model about its pairs: no losses, and no direction."""
    nothing = np.full((2, len(pairs)), np.nan)
    flags = ["unmeasured"] * len(pairs)
    return MeasuredTarget(_table(pairs, encoded, nothing, nothing[0], flags, nothing), {}, rejected)


def _table(
    pairs: Sequence[Pair],
    encoded: Sequence[EncodedPair],
    losses: Floats,
    weights: Floats,
    flags: Sequence[str],
    weighing: Floats,
) -> pa.Table:
    return pa.table(
        [
            [p.id for p in pairs],
            preference(*torch.from_numpy(weighing)).numpy(),
            weights,
            *losses,
            [c.response_tokens for c, _ in encoded],
            [r.response_tokens for _, r in encoded],
            flags,
            [p.chosen[-2]["content"] for p in pairs],
            [p.file for p in pairs],
            [p.line for p in pairs],
            [p.subtask for p in pairs],
            [p.rejected_from for p in pairs],
        ],
        schema=SCHEMA,
    )


class _Gradients:
    """Losses [2, pairs] of all pairs, NaN where there are none, and a direction for each group."""

    def __init__(
        self,
        model: Model,
        encoded: Sequence[EncodedPair],
        objective: Objective,
        reference: Floats | None,
        weighing: Floats | None,
    ) -> None:
        self._model, self._encoded, self._objective = model, encoded, objective
        self._reference, self._weighing = reference, weighing
        self._lengths, self._scale = pair_lengths(encoded), LossScale(model, AVERAGED)
        self._counts = torch.tensor([[side.response_tokens for side in sides] for sides in zip(*encoded, strict=True)])
        self._alone = ~self._counts[1].bool().numpy() & (not objective.paired)
        self.losses = np.full((2, len(encoded)), np.nan)
        self.fits = np.ones(len(encoded), dtype=bool)
        self.directions: dict[str, Direction] = {}

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """Which pairs take part, [pairs]: those whose losses are finite."""
        return self._usable(self.losses, slice(None))

    def item_weights(self) -> Floats:
        """[pairs], in float64."""
        return np.asarray(self._weights(torch.from_numpy(self.losses), slice(None)).numpy())

    def _weights(self, losses: torch.Tensor, places: slice | list[int]) -> torch.Tensor:
        """Of some pairs by their losses here, and elsewhere."""
        others = (
            None if other is None else torch.from_numpy(other[:, places]).to(losses)
            for other in (self._reference, self._weighing)
        )
        return self._objective.item_weights(losses, self._counts[:, places].to(losses), *others)

    def _usable(self, losses: Floats, places: slice | list[int]) -> npt.NDArray[np.bool_]:
        usable = np.isfinite(losses[0]) & (np.isfinite(losses[1]) | self._alone[places])
        return np.asarray(usable if self._weighing is None else usable & np.isfinite(self._weighing[:, places]).all(0))

    def add(self, name: str, group: Sequence[int], batch_tokens: int, progress: Progress) -> int:
        """Measure the pairs of a group; returns the token budget at the end."""
        sums = {name: torch.zeros_like(p, dtype=_wide(p.dtype)) for name, p in self._model.parameters.items()}

        def measure(places: list[int]) -> Measured:
            return self._measure([group[i] for i in places], 1 / len(group))

        def take(places: list[int], measured: Measured | None) -> None:
            mine = [group[i] for i in places]
            if measured is None:
                self.fits[mine] = False
            else:
                self.losses[:, mine], gradients = measured
                for total, gradient in zip(sums.values(), gradients, strict=True):
                    if gradient is not None:
                        total += gradient
            progress.advance(len(mine), sum(self._lengths[i] for i in mine))

        with self._model.requiring_grad():
            budget = in_fitting_batches([self._lengths[i] for i in group], batch_tokens, measure, take)
        if count := int(self.finite[group].sum()):
            provenance = {"pairs": count, **self._objective.describe(), **({"subtask": name} if name else {})}
            self.directions[name] = Direction(
                {name: total * (len(group) / count) for name, total in sums.items()}, provenance
            )
        return budget

    def _measure(self, places: list[int], share: float) -> Measured:
        """((l(y+), l(y-)) [2, pairs], gradients by parameter of share * sum_q w_q f_q) of some pairs.

        The share is in the graph, as in K itself: models that compute parts in float32 round both alike.
        """
        means = torch.stack(mean_losses(self._model, [self._encoded[i] for i in places], self._scale.alone))
        losses: Floats = means.detach().double().cpu().numpy()
        finite = self._usable(losses, places)
        gradients: Sequence[torch.Tensor | None] = [None] * len(self._model.parameters)
        if finite.all():
            terms = self._objective.terms(means, self._counts[:, places].to(means))
            gradients = self._scale.gradients(share * (self._weights(means.detach(), places) * terms).sum())
            if not self._scale.served(gradients):
                return self._measure(places, share)
        elif finite.any():  # 0 * NaN is NaN: the broken pairs must not enter the graph at all
            _, gradients = self._measure([place for place, ok in zip(places, finite, strict=True) if ok], share)
        return losses, gradients


def _groups(pairs: Sequence[Pair], by_subtask: bool) -> dict[str, list[int]]:
    """Places of the pairs by group, in the order in which the groups come."""
    groups: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        groups.setdefault(pair.subtask if by_subtask else "", []).append(place)
    return groups


def _require_sound(direction: Direction) -> None:
    """Raises DataError where a direction is not finite, or zero."""
    where = f" of the subtask {direction.provenance['subtask']}" if "subtask" in direction.provenance else ""
    if not direction.is_finite():
        bad = next(name for name, t in direction.tensors.items() if not t.isfinite().all())
        raise DataError(
            f"the target's gradient{where} is not finite in {bad}: try --dtype float32, or check the model's weights"
        )
    if direction.norm() == 0:
        raise DataError(f"the target's gradient{where} is zero in every chosen parameter: choose other --parameters")


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _flag(pair: EncodedPair, finite: bool, fits: bool) -> str:
    if not fits:
        return "too-long"
    if not finite:
        return "non-finite"
    return "truncated" if any(side.truncated for side in pair) else "ok"
