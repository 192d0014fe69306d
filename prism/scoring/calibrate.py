"""Find the forward engine that comes nearest to the exact scores, and how near it comes."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from prism.data import Encoded, collate
from prism.errors import first_line
from prism.model import Model
from prism.model.memory import attempt, in_fitting_batches
from prism.scoring.check import tolerance_of
from prism.scoring.engine import Engine
from prism.scoring.forward import CentralDifference, ForwardMode

STEPS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # |e v| / |theta| that a central difference is tried with
SAMPLES = 16
Floats = npt.NDArray[np.float64]


class NotGoodEnough(Exception):
    """No forward engine comes near enough to the exact scores."""


def calibrated(
    model: Model, direction: Mapping[str, torch.Tensor], reference: Engine, probes: Sequence[Encoded], *, dual: bool
) -> tuple[Engine, float]:
    """The forward engine and its error on `SAMPLES` of the probes, spread over their lengths.

    It is a central difference with the step that serves best, or dual numbers (if `dual` allows) where that is wrong by
    construction or not good enough.

    Raises:
        NotGoodEnough: with the reason.
    """
    samples = _spread(probes)
    pair = 2 * max(len(s) for s in samples)  # no more at once than the self-check has taken
    exact, budget = scores_in_batches(model, reference, samples, pair)
    finite = np.flatnonzero(np.isfinite(exact))
    samples, exact = [samples[i] for i in finite], exact[finite]
    if not exact.any():
        raise NotGoodEnough("no check sample has a finite score other than zero")

    def error_of(make: Callable[[], Engine]) -> float:
        found = attempt(lambda: scores_in_batches(model, make(), samples, budget))
        return math.inf if found is None else relative_error(found[0], exact)

    reasons = []
    if obstacle := _obstacle(model):
        reasons.append(obstacle)
    else:
        errors = {step: error_of(partial(CentralDifference, model, direction, step)) for step in STEPS}
        step = min(errors, key=errors.__getitem__)
        if errors[step] <= tolerance(model):
            return CentralDifference(model, direction, step), errors[step]
        reasons.append(f"its central difference {_off(errors[step])}")
    if dual:
        try:
            error = error_of(partial(ForwardMode, model, direction))
            if error <= tolerance(model):
                return ForwardMode(model, direction), error
            reasons.append(f"its forward-mode derivative {_off(error)}")
        except (RuntimeError, NotImplementedError) as problem:
            reasons.append(f"the model has no forward-mode derivative ({first_line(problem)})")
    raise NotGoodEnough(" and ".join(reasons))


def relative_error(scores: Floats, exact: Floats) -> float:
    """|scores - exact| / |exact|, over all samples at once; infinite where a score is not finite."""
    error = float(np.linalg.norm(scores - exact) / np.linalg.norm(exact))
    return error if math.isfinite(error) else math.inf


def tolerance(model: Model) -> float:
    """How far scores may be from the exact ones, as a share of all of them."""
    return max(1e-3, tolerance_of(model))


def _spread(probes: Sequence[Encoded]) -> list[Encoded]:
    by_length = sorted(probes, key=len)
    return [by_length[i] for i in sorted({i * len(by_length) // SAMPLES for i in range(SAMPLES)})]


def scores_in_batches(model: Model, engine: Engine, samples: Sequence[Encoded], budget: int) -> tuple[Floats, int]:
    """(scores [n], NaN where a sample is too long for the memory; the token budget that it has room for)."""

    def score(places: list[int]) -> torch.Tensor:
        return engine.score(collate([samples[i] for i in places]).to(model.device)).scores[:, 0]

    def take(places: list[int], scores: torch.Tensor | None) -> None:
        if scores is not None:
            found[places] = scores.double().cpu().numpy()

    found = np.full(len(samples), np.nan)
    budget = in_fitting_batches([len(s) for s in samples], budget, score, take)
    return found, budget


def _off(error: float) -> str:
    if math.isinf(error):
        return "is not finite, or takes too much memory"
    return f"is off by {error:.1e} of the scores"


def _obstacle(model: Model) -> str | None:
    """Why a central difference would be wrong, or nothing but rounding."""
    if model.precision not in (torch.float32, torch.float64):
        return f"a central difference vanishes in the rounding of {model.precision}"
    for name, module in model.network.named_modules():
        if "dora" in type(module).__name__.lower():
            return f"PEFT takes the norm of DoRA's weights for a constant, which a central difference does not ({name})"
        if "router" in type(module).__name__.lower() or hasattr(module, "top_k"):
            return f"a shift of the weights can change which experts {name} chooses"
    return None
