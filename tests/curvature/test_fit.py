"""Fitted curvatures against their definition, built densely in float64 from unpadded samples."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from prism.curvature import Damping, Fitted
from prism.curvature.fit import Kind, Plan, fit_blocks
from prism.curvature.sample import FitSamples, Labels, fit_samples
from prism.curvature.store import Memory
from prism.data import load_pool
from prism.model import Model
from prism.progress import Silent
from prism.target import Direction
from tests.conftest import Rows, tiny_gpt2, tiny_llama
from tests.curvature import dense

DENSE = {"diagonal": dense.diagonal, "kfac": dense.kfac, "ekfac": dense.ekfac}


def lora(network: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(network, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.3)
    return adapted


NETWORKS: dict[str, Callable[[int], Any]] = {
    "llama": lambda vocabulary: tiny_llama(vocabulary, hidden_size=16, intermediate_size=20, num_hidden_layers=1),
    "gpt2": lambda vocabulary: tiny_gpt2(vocabulary, n_embd=12, n_layer=1),
    "lora": lambda vocabulary: lora(tiny_llama(vocabulary)),
}


def make(network: Any, tokenizer: Any, which: str = "auto") -> Model:
    return Model(network.double(), tokenizer, which)


def sampled(model: Model, rows: Rows, labels: Labels = "model", batch_tokens: int = 150) -> FitSamples:
    return fit_samples(
        model,
        load_pool(rows),
        model.encoder(),
        count=100,
        labels=labels,
        seed=3,
        batch_tokens=batch_tokens,
        progress=Silent(),
    )


def fitted(model: Model, samples: FitSamples, kind: Kind, memory: int = 1 << 30) -> Fitted:
    store = Memory()
    fit_blocks(model, samples, Plan.make(model, kind, memory), store, Silent())
    return Fitted(kind, Damping(), store.blocks(), store.means)


def random_direction(model: Model) -> Direction:
    generator = torch.Generator().manual_seed(5)
    return Direction({n: torch.randn(p.shape, dtype=p.dtype, generator=generator) for n, p in model.parameters.items()})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("labels", ["model", "data"])
def test_every_block_is_the_inverse_of_its_dense_definition(
    network: str, kind: Kind, labels: Labels, tokenizer: Any, pool_rows: Rows
) -> None:
    model = make(NETWORKS[network](len(tokenizer)), tokenizer)
    samples = sampled(model, pool_rows, labels)
    direction = random_direction(model)
    solved = fitted(model, samples, kind).solve(direction)
    for name, seen in dense.observe(model, samples.encoded, samples.labels).items():
        h = DENSE[kind](seen)
        damped = h + 0.1 * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
        right = torch.linalg.solve(damped, direction.tensors[name].flatten())
        error = (solved.tensors[name].flatten() - right).norm() / right.norm()
        assert error < 1e-8, (name, float(error))
