"""Find the forward engine that comes nearest to the exact scores, and how near it comes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from prism.data import Encoded, collate
from prism.errors import first_line
from prism.model import Model
from prism.scoring.check import TOLERANCE
from prism.scoring.engine import Engine
from prism.scoring.forward import CentralDifference, ForwardMode

STEPS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # |e v| / |theta| that a central difference is tried with
SAMPLES = 16


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
    by_length = sorted(probes, key=len)
    batch = collate([by_length[i * len(by_length) // SAMPLES] for i in range(SAMPLES)]).to(model.device)
    exact = reference.score(batch).scores[:, 0]
    reasons = []
    if obstacle := _obstacle(model):
        reasons.append(obstacle)
    else:
        tried = [partial(CentralDifference, model, direction, step) for step in STEPS]
        error, best = min(
            ((relative_error(make().score(batch).scores[:, 0], exact), make) for make in tried), key=_first
        )
        if error <= tolerance(model):
            return best(), error
        reasons.append(f"its central difference is off by {error:.1e} of the scores")
    if dual:
        engine = ForwardMode(model, direction)
        try:
            error = relative_error(engine.score(batch).scores[:, 0], exact)
            if error <= tolerance(model):
                return engine, error
            reasons.append(f"its dual numbers are off by {error:.1e} of the scores")
        except (RuntimeError, NotImplementedError) as problem:
            reasons.append(f"the model has no forward-mode derivative ({first_line(problem)})")
    raise NotGoodEnough(" and ".join(reasons))


def relative_error(scores: torch.Tensor, exact: torch.Tensor) -> float:
    """|scores - exact| / |exact|, over all samples at once; infinite where a score is not finite."""
    difference = (scores.double() - exact.double()).norm() / exact.double().norm()
    return float(difference.nan_to_num(nan=torch.inf))


def tolerance(model: Model) -> float:
    return TOLERANCE.get(model.dtype, 5e-2) if model.dtype != torch.float64 else 1e-3


def _first(pair: tuple[float, Callable[[], Engine]]) -> float:
    return pair[0]


def _obstacle(model: Model) -> str | None:
    """Why a central difference would be wrong, or nothing but rounding."""
    if model.dtype not in (torch.float32, torch.float64):
        return f"a central difference vanishes in the rounding of {model.dtype}"
    for name, module in model.network.named_modules():
        if "dora" in type(module).__name__.lower():
            return f"PEFT takes the norm of DoRA's weights for a constant, which a central difference does not ({name})"
        if "router" in type(module).__name__.lower() or hasattr(module, "top_k"):
            return f"a shift of the weights can change which experts {name} chooses"
    return None
