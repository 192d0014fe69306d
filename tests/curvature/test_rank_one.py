"""The mean of rank-one inverses against its definition: dense inverses in float64, from unpadded samples."""

from typing import Any

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from prism.curvature import Damping
from prism.curvature.rank_one import RankOneMean
from prism.curvature.sample import FitSamples
from prism.errors import DataError
from prism.model import Model
from prism.progress import Silent
from prism.target import Direction
from tests.conftest import Rows
from tests.curvature import dense
from tests.curvature.test_fit import NETWORKS, make, random_direction, sampled


def experts(vocabulary: int) -> Any:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1}
    network = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=vocabulary, num_hidden_layers=1, num_local_experts=3, max_position_embeddings=256, **shape
        )
    )
    network.set_experts_implementation("eager")
    return network


def by_definition(model: Model, samples: FitSamples, direction: Direction, name: str) -> torch.Tensor:
    gradients = dense.observe(model, samples.encoded, samples.labels)[name].gradients
    v, damping = direction.tensors[name].flatten(), 0.1 * torch.stack(gradients).square().mean()
    if len(v) > 1500:  # too wide to invert: by Sherman and Morrison
        taken = [(g := gradient.flatten()) * (g @ v) / (damping + g @ g) for gradient in gradients]
        return ((v - torch.stack(taken).mean(0)) / damping).view_as(direction.tensors[name])
    damp = damping * torch.eye(len(v), dtype=v.dtype)
    each = [torch.linalg.solve(torch.outer(g.flatten(), g.flatten()) + damp, v) for g in gradients]
    return torch.stack(each).mean(0).view_as(direction.tensors[name])


@pytest.mark.parametrize(
    ("network", "which"), [("llama", "auto"), ("gpt2", "all"), ("lora", "auto"), ("experts", "all")]
)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_the_mean_of_single_samples_inverses(
    network: str, which: str, one_by_one: bool, tokenizer: Any, pool_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    if one_by_one:
        monkeypatch.setattr("prism.curvature.passes.refusal", lambda model, samples: "it was asked for")
    model = make({**NETWORKS, "experts": experts}[network](len(tokenizer)), tokenizer, which)
    samples, direction = sampled(model, pool_rows[:4], "data"), random_direction(model)
    solved = RankOneMean(model, samples, Damping(), Silent()).solve(direction)
    assert solved.provenance["curvature"] == "datainf"
    assert sum(t.numel() <= 1500 for t in direction.tensors.values()) >= 4
    for name in direction.tensors:
        right = by_definition(model, samples, direction, name)
        error = (solved.tensors[name] - right).norm() / right.norm()
        assert error < 1e-8, (name, float(error))


def test_a_gradient_that_is_not_finite_is_said(tokenizer: Any, pool_rows: Rows) -> None:
    model = make(NETWORKS["llama"](len(tokenizer)), tokenizer)
    samples, direction = sampled(model, pool_rows[:4], "data"), random_direction(model)
    with torch.no_grad():
        next(iter(model.parameters.values())).fill_(torch.nan)
    with pytest.raises(DataError, match="are not finite"):
        RankOneMean(model, samples, Damping(), Silent()).solve(direction)
