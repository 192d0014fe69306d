"""Choose the engine that scores a pool."""

import math
from collections.abc import Sequence

import torch

from prism.data import Encoded, collate
from prism.model import Model
from prism.scoring.backward import LoopEngine, StreamingEngine
from prism.scoring.check import TOLERANCE, self_check
from prism.scoring.engine import Engine
from prism.scoring.taps import Untappable
from prism.target import Direction


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
