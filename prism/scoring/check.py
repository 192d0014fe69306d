"""The backward engine against plain autograd, on a sample of the user's own."""

import math

import torch

from prism.data import Batch
from prism.model import Model
from prism.scoring.backward import StreamingEngine, sample_gradients, single
from prism.scoring.products import wide

# How far the streaming pass may be from autograd, relative to each parameter's squared gradient norm.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}


def self_check(model: Model, batch: Batch) -> tuple[float, str]:
    """(largest relative error, parameter) of the streaming engine against autograd, by parameter, on the first sample
    of a batch; (NaN, "") where that sample's loss or gradient is not finite.

    Raises:
        Untappable: the streaming engine can't be used for this model and these parameters.
    """
    loss, gradients = sample_gradients(model, single(batch, 0))
    squares = {name: float(wide(g).square().sum()) for name, g in gradients.items()}
    if not (loss.isfinite() and all(map(math.isfinite, squares.values()))):
        return math.nan, ""
    zero = {name: torch.zeros_like(p) for name, p in model.parameters.items() if name not in gradients}
    engine = StreamingEngine(model, {n: g.unsqueeze(0) for n, g in {**gradients, **zero}.items()}, norms=True)
    engine.run(batch)
    products, streamed = engine.taps.scores(), engine.taps.squares()
    smallest = 1e-12 * max(squares.values(), default=0.0)
    worst, where = 0.0, ""
    for name, square in squares.items():
        got = (float(products[name][0, 0]), float(streamed[name][0])) if name in products else (0.0, 0.0)
        scale = max(square, smallest)
        error = max(abs(value - square) / scale for value in got) if scale else 0.0
        if not error <= worst:  # NaN counts as the worst
            worst, where = error if math.isfinite(error) else math.inf, name
    return worst, where
