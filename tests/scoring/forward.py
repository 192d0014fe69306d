"""What the tests of the forward engines share: models, directions, and scores by per-sample autograd."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prism.data import Encoded, collate, load_target
from prism.model import Model
from prism.scoring.engine import Engine
from prism.target import Direction, measure_target
from tests import oracle
from tests.conftest import TEXTS, tiny_llama

PAIRS = [{"prompt": q, "chosen": a, "rejected": TEXTS[(i + 1) % len(TEXTS)][1]} for i, (q, a) in enumerate(TEXTS[:4])]
Floats = npt.NDArray[np.float64]


def llama(tokenizer: Any, which: str = "linear", dtype: torch.dtype = torch.float32, **changes: Any) -> Model:
    return Model(tiny_llama(len(tokenizer), **changes).to(dtype), tokenizer, which)


def curved(tokenizer: Any) -> Model:
    """Weights so large that softmaxes jump: no step of a central difference is short enough."""
    network = tiny_llama(len(tokenizer))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "layers" in name and parameter.dim() == 2:
                parameter.mul_(100 if "q_proj" in name or "k_proj" in name else 10)
    return Model(network, tokenizer, "linear")


def target_direction(model: Model) -> Direction:
    return measure_target(model, load_target(PAIRS), model.encoder()).direction


def stacked(direction: Direction) -> dict[str, torch.Tensor]:
    return {name: tensor[None] for name, tensor in direction.tensors.items()}


def exact_scores(model: Model, samples: Sequence[Encoded], direction: Direction) -> Floats:
    return np.array([oracle.dot(oracle.sample_gradient(model, s)[1], direction.tensors) for s in samples])


def scores_of(engine: Engine, samples: Sequence[Encoded]) -> Floats:
    scores: Floats = engine.score(collate(samples)).scores[:, 0].double().numpy()
    return scores


def off(scores: Floats, exact: Floats) -> float:
    """The error, as a share of the scores."""
    return float(np.linalg.norm(scores - exact) / np.linalg.norm(exact))
