"""Try out what scores against each target pair take."""

import time
from dataclasses import dataclass

import torch

from prism.config import bytes_of
from prism.data import Pool, Target
from prism.run.trial import Bench, spread
from prism.scoring import Chosen, first_encoded
from prism.scoring.choose import backward_engine
from prism.scoring.matrix import Tiling
from prism.scoring.scorer import Scorer
from prism.target import encode_pairs
from prism.target.pairs import pair_gradients

ROWS = 32
FEW = 4


@dataclass(frozen=True)
class PairTrial:
    """The passes in words; seconds per pool row over all of them, and for the directions; bytes of the directions that
    are held at once."""

    passes: str
    each: float
    directions: float
    held: int


def try_pairs(bench: Bench, sample: Pool, target: Target) -> PairTrial:
    """Time the gradients of a few pairs, and a batch of rows from all over the pool against as many random directions
    as one pass takes."""
    model, memory = bench.model, bytes_of(bench.config.direction_memory)
    tiling = Tiling.plan(model, len(target), memory)
    pairs = encode_pairs(spread(target, min(FEW, len(target))), bench.encoder)[1]
    began = time.monotonic()
    gradients = sum(1 for _ in pair_gradients(model, pairs))
    directions = (time.monotonic() - began) / gradients * len(target)
    samples = first_encoded(spread(sample, min(ROWS, len(sample))), bench.encoder)
    v = {
        name: torch.randn(2 * tiling.together, *p.shape, dtype=p.dtype, device=p.device)
        for name, p in model.parameters.items()
    }
    engine, why = backward_engine(model, v, norms=False, probes=samples)
    scorer = Scorer(model, Chosen(engine, why), 2 * tiling.together, bench.config.batch_tokens)
    times = []
    for _ in range(2):  # the first one warms up
        began = time.monotonic()
        scorer.score(samples, lambda *_: None)
        times.append(time.monotonic() - began)
    each = len(list(tiling.tiles())) * times[-1] / len(samples)
    return PairTrial(str(tiling), each, directions, tiling.bytes)
