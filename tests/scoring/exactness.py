"""Scores and gradient norms of a batch against per-sample autograd."""

from collections.abc import Sequence
from typing import Any

import torch

from prism.data import Encoded, collate, load_pool
from prism.model import Model
from prism.scoring.choose import choose_engine
from prism.target import Direction
from tests import oracle
from tests.conftest import TEXTS

ROWS = [{"prompt": q, "completion": a} for q, a in TEXTS[:5]]


def random_direction(model: Model, seed: int = 3) -> Direction:
    generator = torch.Generator().manual_seed(seed)
    return Direction({n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in model.parameters.items()})


def encoded(model: Model, rows: Sequence[dict[str, Any]] = ROWS) -> list[Encoded]:
    encoder = model.encoder(max_length=40)
    return [encoder.row(row) for row in load_pool(list(rows))]


def check_exact(model: Model, samples: Sequence[Encoded], bound: float = 1e-10) -> str:
    """Fails where a score is off by more than `bound` ||g_z|| ||V||, or a norm by more than `bound` ||g_z||; returns
    the sentence that says which engine it was and why."""
    assert len({len(s) for s in samples}) > 2
    v = random_direction(model)
    chosen = choose_engine(model, [v], norms=True, probes=samples)
    result = chosen.engine.score(collate(samples))
    assert result.norms is not None
    for i, sample in enumerate(samples):
        loss, gradient = oracle.sample_gradient(model, sample)
        size = oracle.norm(gradient)
        assert size > 0
        assert abs(float(result.losses[i]) - loss) <= bound * loss
        assert abs(float(result.scores[i, 0]) - oracle.dot(gradient, v.tensors)) <= bound * size * v.norm()
        assert abs(float(result.norms[i]) - size) <= bound * size
    return chosen.why
