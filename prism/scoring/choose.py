"""Choose the engine that scores a pool: by what the user asks for, and by measurement on the user's own samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from prism.data import Encoded, collate
from prism.errors import ConfigError
from prism.model import Model
from prism.model.memory import attempt
from prism.scoring.backward import LoopEngine, StreamingEngine
from prism.scoring.calibrate import SAMPLES, NotGoodEnough, calibrated
from prism.scoring.check import first_check, tolerance_of
from prism.scoring.engine import Engine
from prism.scoring.products import forms_gradients
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
    v = stacked(model, directions)
    backward, why = backward_engine(model, v, norms=norms, probes=probes)
    worth = rows >= FORWARD_ROWS and model.precision == torch.float32 and len(directions) == 1 and not norms
    if probes and (engine == "forward" or (engine == "auto" and worth)):
        dual = engine == "forward" or isinstance(backward, LoopEngine)
        try:
            forward, error = calibrated(model, v, backward, probes, dual=dual)
        except NotGoodEnough as reason:
            return Chosen(backward, f"{why}; not the forward engine, since {reason}")
        said = f"{forward.name} engine; it differs by {error:.1e} of the scores from the {backward.name} engine"
        return Chosen(forward, f"{said} on {min(len(probes), SAMPLES)} check samples", backward)
    return Chosen(backward, why)


def backward_engine(
    model: Model,
    v: Mapping[str, torch.Tensor],
    *,
    norms: bool,
    probes: Sequence[Encoded],
    sizes: torch.Tensor | None = None,
) -> tuple[Engine, str]:
    """The backward engine where it proves itself on `probes`, else the loop; with a sentence that says which and why.

    The proof: with a sample's own autograd gradient as the direction, the streamed product of every parameter must be
    that parameter's squared gradient norm, in a batch with a longer neighbour. A parameter that a model uses behind its
    module's back shows at once. Samples with NaN prove nothing: the next one is asked. `sizes` [K]: what scores are
    multiplied by, where directions are narrowed already.
    """
    try:
        worst, name = first_check(model, probes)
        if worst <= tolerance_of(model):
            engine = StreamingEngine(model, v, norms, sizes)
            _settle(engine, probes, model.device)
            return engine, f"backward engine; largest error on a check sample {worst:.1e}; {_ways(v, norms, probes)}"
        reason = f"{name} is off by {worst:.1e} of its squared gradient norm"
        if math.isnan(worst):
            reason = "no check sample has a finite gradient"
    except Untappable as error:
        reason = str(error)
    said = f"per-sample engine, exact but slow, since one pass for all can't be used: {reason}"
    return LoopEngine(model, v, norms, sizes), said


def _settle(engine: StreamingEngine, probes: Sequence[Encoded], device: torch.device) -> None:
    """Find the loss scale at which a usual and a long sample do not overflow, and leave a margin above it."""
    if engine.scale is not None and engine.scale.value != 1:
        by_length = sorted(probes, key=len)
        batch = collate([by_length[len(probes) // 2], by_length[-1]]).to(device)
        attempt(partial(engine.settle, batch))
        engine.scale.lower()


def _ways(v: Mapping[str, torch.Tensor], norms: bool, probes: Sequence[Encoded]) -> str:
    """How the products of matrices are computed, for samples of the usual length."""
    rows = sorted(len(p) for p in probes)[len(probes) // 2]
    matrices = [t.shape for t in v.values() if t.dim() == 3]
    formed = sum(forms_gradients(rows, shape[2], shape[1], shape[0], norms) for shape in matrices)
    return (
        f"for {rows} tokens, sum_t d_t . (V x_t) takes fewer operations in {len(matrices) - formed} matrices, "
        f"per-sample gradients in {formed}"
    )


def stacked(model: Model, directions: Sequence[Direction]) -> dict[str, torch.Tensor]:
    """Parameter name → [K, *shape]."""
    return {n: torch.stack([d.tensors[n] for d in directions]).to(model.device) for n in model.parameters}
