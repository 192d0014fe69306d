"""How much a model prefers the wanted responses of a target."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoder, Target
from prism.errors import BadRow, DataError
from prism.evaluation.bootstrap import Figure, mean_figures
from prism.model import Model
from prism.model.memory import in_fitting_batches
from prism.progress import Progress, Silent
from prism.target import encode_pairs, mean_losses, pair_lengths

Floats = npt.NDArray[np.float64]

# What a pair's mean token losses l(y+), l(y-) say, each a mean over pairs (METHOD, "Why it works").
FIGURES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "preference": lambda chosen, rejected: np.exp(-np.logaddexp(0, chosen - rejected)),  # pi
    "won": lambda chosen, rejected: (chosen < rejected).astype(np.float64),  # pi > 1/2
    "potential": lambda chosen, rejected: np.logaddexp(0, rejected - chosen),  # K = -log(1 - pi)
    "log_preference": lambda chosen, rejected: -np.logaddexp(0, chosen - rejected),  # log pi
    "loss_chosen": lambda chosen, _: chosen,
    "loss_rejected": lambda _, rejected: rejected,
}


@dataclass(frozen=True)
class PairLosses:
    """Pairs of a target, and l(y+), l(y-) [2, pairs] in nats per token under one model: NaN where there is none."""

    ids: list[str]
    losses: Floats
    truncated: int
    rejected: list[BadRow]

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """Which pairs count, [pairs]."""
        return np.logical_and.reduce(np.isfinite(self.losses))  # type: ignore[no-any-return]

    def values(self) -> dict[str, Floats]:
        """Each of `FIGURES` by pair, [pairs]."""
        with np.errstate(invalid="ignore"):  # those of pairs that don't count
            return {name: of(*self.losses) for name, of in FIGURES.items()}

    def figures(self, resamples: int, seed: int) -> dict[str, Figure]:
        """Means over the pairs that count."""
        return mean_figures({n: v[self.finite] for n, v in self.values().items()}, resamples, seed)

    def minus(self, base: "PairLosses", resamples: int, seed: int) -> dict[str, Figure]:
        """Paired differences to another model's, over the pairs that count under both."""
        both = self.finite & base.finite
        theirs = base.values()
        return mean_figures({n: (v - theirs[n])[both] for n, v in self.values().items()}, resamples, seed)


@torch.no_grad()
def measure_pairs(
    model: Model,
    target: Target,
    encoder: Encoder,
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> PairLosses:
    """The losses of every pair, without gradients; a pair that is too long for the memory has none.

    Raises:
        DataError: no pair can be used, or none has finite losses.
    """
    progress = progress or Silent()
    pairs, encoded, rejected = encode_pairs(target, encoder)
    lengths = pair_lengths(encoded)
    losses = np.full((2, len(pairs)), np.nan)

    def run(places: list[int]) -> Floats:
        sides = mean_losses(model, [encoded[i] for i in places])
        return torch.stack(sides).double().cpu().numpy()

    def take(places: list[int], found: Floats | None) -> None:
        if found is not None:
            losses[:, places] = found
        assert progress is not None
        progress.advance(len(places), sum(lengths[i] for i in places))

    progress.start("pairs", len(pairs))
    in_fitting_batches(lengths, batch_tokens, run, take)
    truncated = sum(any(side.truncated for side in pair) for pair in encoded)
    measured = PairLosses([pair.id for pair in pairs], losses, truncated, rejected)
    if not measured.finite.any():
        raise DataError(
            "no target pair has a finite loss under this model: are its weights NaN, or the pairs too long?"
        )
    return measured


@dataclass(frozen=True)
class Preference:
    """Over all pairs: mean pi, share of pairs with pi > 1/2, the potential K, and mean log pi (METHOD)."""

    mean: float
    won: float
    potential: float
    mean_log: float
    pairs: int


def evaluate_preference(
    model: Model, target: Target, encoder: Encoder, *, batch_tokens: int = BATCH_TOKENS
) -> Preference:
    """Measure the model's preference on `target`, without gradients.

    Raises:
        DataError: no pair can be used.
    """
    measured = measure_pairs(model, target, encoder, batch_tokens=batch_tokens)
    means = {name: float(values[measured.finite].mean()) for name, values in measured.values().items()}
    return Preference(
        mean=means["preference"],
        won=means["won"],
        potential=means["potential"],
        mean_log=means["log_preference"],
        pairs=int(measured.finite.sum()),
    )
