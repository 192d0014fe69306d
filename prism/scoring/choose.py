"""Choose the engine that scores a pool: by what the user asks for, and by measurement on the user's own samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from prism.data import Encoded, collate
from prism.errors import ConfigError
from prism.model import Model
from prism.scoring.backward import LoopEngine, StreamingEngine
from prism.scoring.calibrate import NotGoodEnough, calibrated
from prism.scoring.check import TOLERANCE, self_check
from prism.scoring.engine import Engine
from prism.scoring.taps import Untappable
from prism.target import Direction

EngineName = Literal["auto", "backward", "forward"]
FORWARD_ROWS = 1024  # of a smaller pool, the choice of a step would take longer than it saves


@dataclass(frozen=True)
class Chosen:
    """An engine; the sentence that says which and why; what it is to be compared with in the run, if inexact."""

    engine: Engine
    why: str
    reference: Engine | None = None


def choose_engine(
    model: Model,
    directions: Sequence[Direction],
    *,
    norms: bool,
    probes: Sequence[Encoded],
    engine: EngineName = "auto",
    rows: int = 0,
) -> Chosen:
    """The engine for a pool of `rows` rows, proven on `probes`.

    `auto` takes the forward engine for one direction in float32 where its central difference is within tolerance, else
    the backward engine. `forward` also takes dual numbers; only where neither is good enough does it fall back.

    Raises:
        ConfigError: the forward engine is asked for what it can't give.
    """
    if engine == "forward" and (norms or len(directions) > 1):
        raise ConfigError("the forward engine gives no gradient norms, and one direction a pass: use --engine backward")
    backward, why = _backward(model, directions, norms=norms, probes=probes)
    worth = rows >= FORWARD_ROWS and model.dtype == torch.float32 and len(directions) == 1 and not norms
    if probes and (engine == "forward" or (engine == "auto" and worth)):
        dual = engine == "forward" or isinstance(backward, LoopEngine)
        direction = stacked(model, directions, like_weights=False)
        try:
            forward, error = calibrated(model, direction, backward, probes, dual=dual)
        except NotGoodEnough as reason:
            return Chosen(backward, f"{why}; not the forward engine, since {reason}")
        said = f"{forward.name} engine; it differs by {error:.1e} of the scores from the {backward.name} engine"
        return Chosen(forward, f"{said} on {min(len(probes), 16)} check samples", backward)
    return Chosen(backward, why)


def _backward(
    model: Model, directions: Sequence[Direction], *, norms: bool, probes: Sequence[Encoded]
) -> tuple[Engine, str]:
    """The backward engine where it proves itself on `probes`, else the loop; with a sentence that says which and why.

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
            said = f"backward engine; largest error on a check sample {worst:.1e}"
            return StreamingEngine(model, stacked(model, directions, like_weights=True), norms), said
        if not math.isnan(worst):
            reason = f"{name} is off by {worst:.1e} of its squared gradient norm"
            break
    said = f"per-sample engine, exact but slow, since one pass for all can't be used: {reason}"
    return LoopEngine(model, stacked(model, directions, like_weights=False), norms), said


def stacked(model: Model, directions: Sequence[Direction], like_weights: bool) -> dict[str, torch.Tensor]:
    """Parameter name → [K, *shape], in the weights' dtype or the directions' own."""
    return {
        name: torch.stack([d.tensors[name] for d in directions]).to(model.device, p.dtype if like_weights else None)
        for name, p in model.parameters.items()
    }
