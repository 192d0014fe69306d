"""Fitted curvatures against their definition, built densely in float64 from unpadded samples."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import MixtralConfig, MixtralForCausalLM

from prism.curvature import Damping, Diagonal, Fitted, blocks, statistics
from prism.curvature.fit import Kind, Plan, fit_blocks
from prism.curvature.sample import FitSamples, Labels, fit_samples
from prism.curvature.store import Memory
from prism.data import load_pool
from prism.errors import DataError, ModelError, RunError
from prism.model import Model
from prism.progress import Silent
from prism.target import Direction
from tests.conftest import Rows, tiny_gpt2, tiny_llama
from tests.curvature import dense

DENSE = {"kfac": dense.kfac, "ekfac": dense.ekfac}


def new_lora(network: Any) -> Any:
    torch.manual_seed(4)
    return get_peft_model(network, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))


def lora(network: Any) -> Any:
    adapted = new_lora(network)
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


def check(model: Model, samples: FitSamples, kind: Kind) -> None:
    """Every block is the inverse of its dense definition, damped by a tenth of its mean eigenvalue."""
    plan = Plan.make(model, kind, 1 << 30)
    direction = random_direction(model)
    solved = fitted(model, samples, kind).solve(direction)
    tokens = sum(map(len, samples.encoded))
    for name, seen in dense.observe(model, samples.encoded, samples.labels).items():
        v = direction.tensors[name]
        if name in plan.factored:
            h = DENSE[kind](seen)
            damped = h + 0.1 * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
            right = torch.linalg.solve(damped, v.flatten()).view_as(v)
        else:
            squares = dense.squares(seen) / (tokens if kind == "kfac" else len(samples.encoded))
            right = v / (squares + 0.1 * squares.mean())
        error = (solved.tensors[name] - right).norm() / right.norm()
        assert error < 1e-8, (name, float(error))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["diagonal", "kfac", "ekfac"])
def test_every_block_is_the_inverse_of_its_dense_definition(
    network: str, kind: Kind, tokenizer: Any, pool_rows: Rows
) -> None:
    model = make(NETWORKS[network](len(tokenizer)), tokenizer)
    labels: Labels = "data" if network == "llama" else "model"
    check(model, sampled(model, pool_rows, labels), kind)


@pytest.mark.parametrize("kind", ["diagonal", "kfac", "ekfac"])
def test_embeddings_heads_norms_and_biases_get_a_diagonal(kind: Kind, tokenizer: Any, pool_rows: Rows) -> None:
    """GPT-2's head is its embedding: the square of a sample's gradient has a cross term of the two uses."""
    model = make(NETWORKS["gpt2"](len(tokenizer)), tokenizer, "all")
    assert model.network.lm_head.weight is model.network.transformer.wte.weight
    factored = Plan.make(model, kind, 1 << 30).factored
    assert len(factored) == (0 if kind == "diagonal" else 4) and all("attn" in n or "mlp" in n for n in factored)
    check(model, sampled(model, pool_rows, batch_tokens=1000), kind)


def test_an_untied_head_gets_a_diagonal(tokenizer: Any, pool_rows: Rows) -> None:
    model = make(NETWORKS["llama"](len(tokenizer)), tokenizer, "all")
    check(model, sampled(model, pool_rows), "ekfac")


def test_experts_get_a_diagonal(tokenizer: Any, pool_rows: Rows) -> None:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
        max_position_embeddings=256,
    )
    network = MixtralForCausalLM(config)
    network.set_experts_implementation("eager")
    check(make(network, tokenizer), sampled(make(network, tokenizer), pool_rows), "ekfac")


@pytest.mark.parametrize("memory", [1, 20_000])
def test_parameters_fitted_in_parts_are_the_same(memory: int, tokenizer: Any, pool_rows: Rows) -> None:
    model = make(NETWORKS["llama"](len(tokenizer)), tokenizer)
    samples, direction = sampled(model, pool_rows), random_direction(model)
    assert len(Plan.make(model, "ekfac", memory).groups) > 1
    whole, parts = (fitted(model, samples, "ekfac", m).solve(direction).tensors for m in (1 << 30, memory))
    for name, t in whole.items():
        torch.testing.assert_close(parts[name], t, rtol=1e-9, atol=0)


def test_out_of_memory_counts_no_sample_twice(tokenizer: Any, pool_rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(NETWORKS["llama"](len(tokenizer)), tokenizer)
    samples, direction = sampled(model, pool_rows, batch_tokens=1000), random_direction(model)
    right = fitted(model, samples, "ekfac").solve(direction).tensors
    own, calls = blocks.summed_squares, iter(range(10**6))

    def fails_at_times(left: torch.Tensor, right: torch.Tensor, most: int) -> torch.Tensor:
        if next(calls) % 11 == 3 and len(left) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return own(left, right, most)

    monkeypatch.setattr(statistics, "summed_squares", fails_at_times)
    found = fitted(model, samples, "ekfac").solve(direction).tensors
    assert next(calls) > 20
    for name, t in right.items():
        torch.testing.assert_close(found[name], t, rtol=1e-9, atol=0)


def test_a_model_that_cannot_be_followed_is_refused_by_name_or_taken_sample_by_sample(
    tokenizer: Any, pool_rows: Rows
) -> None:
    network = NETWORKS["llama"](len(tokenizer))
    layer = network.model.layers[0].mlp.down_proj
    own = layer.forward

    def forward(x: torch.Tensor) -> Any:
        return own(x) + layer.weight.square().mean()

    layer.forward = forward
    model = make(network, tokenizer)
    samples = sampled(model, pool_rows)
    with pytest.raises(ModelError, match=r"down_proj.*--curvature diagonal"):
        fitted(model, samples, "ekfac")
    check(model, samples, "diagonal")


def test_a_vanishing_block_is_damped_by_the_mean_of_the_model(tokenizer: Any, pool_rows: Rows) -> None:
    """The A of a new LoRA: its B is zero."""
    model = make(new_lora(NETWORKS["llama"](len(tokenizer))), tokenizer)
    samples, direction = sampled(model, pool_rows), random_direction(model)
    curvature = fitted(model, samples, "ekfac")
    solved = curvature.solve(direction).tensors
    sizes = {n: p.numel() for n, p in model.parameters.items()}
    overall = sum(curvature.means[n] * size for n, size in sizes.items()) / sum(sizes.values())
    for name, t in direction.tensors.items():
        if "lora_A" in name:
            assert curvature.means[name] == 0
            torch.testing.assert_close(solved[name], t / (0.1 * overall))
        else:
            assert curvature.means[name] > 0


def test_a_curvature_of_nothing_is_refused() -> None:
    curvature = Fitted("diagonal", Damping(), {"w": Diagonal(torch.zeros(2))}, {"w": 0.0})
    with pytest.raises(DataError, match="vanishes"):
        curvature.solve(Direction({"w": torch.ones(2)}))
    solved = curvature.solve(Direction({"w": torch.ones(2)}), Damping(0.5, relative=False))
    assert solved.tensors["w"].tolist() == [2, 2]
    with pytest.raises(RunError, match=r"other parameters.*such as"):
        curvature.solve(Direction({"x": torch.ones(2)}))
