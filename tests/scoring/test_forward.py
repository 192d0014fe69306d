"""Scores without a backward pass, against per-sample autograd."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prism.data import collate
from prism.model import Model
from prism.scoring.calibrate import STEPS
from prism.scoring.engine import Engine
from prism.scoring.forward import CentralDifference, ForwardMode
from tests import oracle
from tests.conftest import tiny_gpt2, tiny_llama
from tests.scoring.doubled import Doubled
from tests.scoring.exactness import encoded, random_direction
from tests.scoring.forward import exact_scores, llama, off, scores_of, stacked, target_direction
from tests.scoring.test_adapters import lora
from tests.scoring.test_exact import tiny_gemma
from tests.scoring.test_families import FAMILIES, build, with_lora

Build = Callable[[int], Any]
ENGINES: dict[str, Callable[[Model, dict[str, torch.Tensor]], Engine]] = {
    "central difference": lambda model, v: CentralDifference(model, v, 1e-4),
    "dual numbers": ForwardMode,
}
MODELS: dict[str, Build] = {
    "llama": tiny_llama,
    "llama-tied": lambda n: tiny_llama(n, tie_word_embeddings=True, attention_bias=True),
    "gpt2": tiny_gpt2,  # its embeddings are tied too
    "gemma2": tiny_gemma,
    "mixtral": lambda n: build(FAMILIES["mixtral"], n),
    "deepseek-v3": lambda n: build(FAMILIES["deepseek-v3"], n),
    "falcon": lambda n: build(FAMILIES["falcon-multi-query"], n),
    "rwkv": lambda n: build(FAMILIES["rwkv"], n),
    "dora": lambda n: lora(tiny_llama(n), use_dora=True),
}
GPT2_AND_LLAMA = pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])


def in_float64(network: Any, tokenizer: Any, which: str) -> Model:
    if which == "lora" and not hasattr(network, "peft_config"):
        network = with_lora(network)
    return Model(network.double(), tokenizer, which)


def same_tensors(model: Model, before: dict[str, torch.Tensor]) -> bool:
    """Whether every parameter of the network is the one that it was, to the bit."""
    now = dict(model.network.named_parameters(remove_duplicate=False))
    return now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in now)


@pytest.mark.parametrize("which", ["lora", "linear", "all"])
@pytest.mark.parametrize("name", list(MODELS))
def test_dual_numbers_are_exact(name: str, which: str, tokenizer: Any) -> None:
    model = in_float64(MODELS[name](len(tokenizer)), tokenizer, which)
    samples, v = encoded(model), random_direction(model)
    assert len({len(s) for s in samples}) > 2
    with Doubled():
        result = ForwardMode(model, stacked(v)).score(collate(samples))
        for sample, loss, score in zip(samples, result.losses, result.scores[:, 0], strict=True):
            true_loss, gradient = oracle.sample_gradient(model, sample)
            assert float(loss) == pytest.approx(true_loss, rel=1e-12)
            assert abs(float(score) - oracle.dot(gradient, v.tensors)) <= 1e-10 * oracle.norm(gradient) * v.norm()


@pytest.mark.parametrize("which", ["lora", "linear", "all"])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "gemma2", "falcon"])
def test_a_central_difference_in_float64(name: str, which: str, tokenizer: Any) -> None:
    model = in_float64(MODELS[name](len(tokenizer)), tokenizer, which)
    samples, v = encoded(model), random_direction(model)
    with Doubled():
        assert (
            off(scores_of(CentralDifference(model, stacked(v), 1e-5), samples), exact_scores(model, samples, v)) < 1e-6
        )


@GPT2_AND_LLAMA
def test_its_error_grows_with_the_square_of_the_step(make: Build, tokenizer: Any) -> None:
    model = in_float64(make(len(tokenizer)), tokenizer, "linear")
    samples, v = encoded(model), random_direction(model)
    with Doubled():
        exact = exact_scores(model, samples, v)
        errors = [off(scores_of(CentralDifference(model, stacked(v), e), samples), exact) for e in (4e-3, 2e-3, 1e-3)]
    assert [big / small for big, small in itertools.pairwise(errors)] == pytest.approx([4, 4], rel=0.1)


@pytest.mark.parametrize("which", ["lora", "linear", "all"])
@GPT2_AND_LLAMA
def test_a_central_difference_in_float32_at_its_best_step(make: Build, which: str, tokenizer: Any) -> None:
    network = make(len(tokenizer))
    model = Model((with_lora(network) if which == "lora" else network).float(), tokenizer, which)
    samples, v = encoded(model), target_direction(model)
    exact = exact_scores(model, samples, v)
    assert min(off(scores_of(CentralDifference(model, stacked(v), e), samples), exact) for e in STEPS) < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@GPT2_AND_LLAMA
def test_dual_numbers_in_half_precision_stay_near_float32(make: Build, dtype: torch.dtype, tokenizer: Any) -> None:
    def make_wider(vocabulary: int) -> Any:  # torch's derivative of a LayerNorm overflows float16 at tiny variances
        network = make(vocabulary)
        with torch.no_grad():
            network.get_input_embeddings().weight.mul_(10)
        return network

    wide = Model(make_wider(len(tokenizer)), tokenizer, "linear")
    samples, v = encoded(wide), target_direction(wide)
    narrow = Model(make_wider(len(tokenizer)).to(dtype), tokenizer, "linear")
    for size in (1.0, 1e-7, 1e7):  # whatever the length of the direction: none of these fits into float16
        scores = scores_of(ForwardMode(narrow, {n: size * t for n, t in stacked(v).items()}), samples) / size
        assert off(scores, exact_scores(wide, samples, v)) < 3e-2


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.parametrize("which", ["lora", "linear", "all"])
def test_the_model_is_as_it_was(which: str, name: str, tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer), tie_word_embeddings=True)
    model = Model(with_lora(network).float() if which == "lora" else network, tokenizer, which)
    before = {n: p.clone() for n, p in model.network.named_parameters(remove_duplicate=False)}
    engine = ENGINES[name](model, stacked(random_direction(model)))
    batch = collate(encoded(model))

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    first = engine.score(batch)
    handle = model.network.get_output_embeddings().register_forward_hook(fails)
    with pytest.raises(ZeroDivisionError):
        engine.score(batch)
    handle.remove()
    assert same_tensors(model, before)
    assert all(isinstance(p, torch.nn.Parameter) and not p.requires_grad for p in model.network.parameters())
    assert not any("forward" in vars(module) for module in model.network.modules())
    assert torch.equal(engine.score(batch).scores, first.scores)


@pytest.mark.parametrize("name", list(ENGINES))
def test_dropout_is_off(name: str, tokenizer: Any) -> None:
    network = with_lora(tiny_gpt2(len(tokenizer), resid_pdrop=0.5, embd_pdrop=0.5), lora_dropout=0.5).train()
    model = in_float64(network, tokenizer, "lora")
    samples, v = encoded(model), random_direction(model)
    scores = scores_of(ENGINES[name](model, stacked(v)), samples)
    assert off(scores, exact_scores(model, samples, v)) < 1e-5


@pytest.mark.parametrize("name", list(ENGINES))
def test_a_new_lora_whose_b_is_zero(name: str, tokenizer: Any) -> None:
    model = Model(lora(tiny_gpt2(len(tokenizer)), fan_in_fan_out=True).double(), tokenizer, "lora_B")
    assert not any(p.any() for p in model.parameters.values())
    samples, v = encoded(model), random_direction(model)
    assert off(scores_of(ENGINES[name](model, stacked(v)), samples), exact_scores(model, samples, v)) < 1e-6


@pytest.mark.parametrize(("name", "bound"), [("central difference", 2e-3), ("dual numbers", 1e-5)])
def test_batches_and_order_change_little(name: str, bound: float, tokenizer: Any) -> None:
    """Rounding depends on a batch's shape and the CPU: either of two central differences may be off by 1e-3."""
    model = llama(tokenizer)
    samples = encoded(model)
    engine = ENGINES[name](model, stacked(target_direction(model)))
    whole = scores_of(engine, samples)
    assert off(scores_of(engine, samples[::-1])[::-1], whole) < bound
    assert off(np.concatenate([scores_of(engine, [s]) for s in samples]), whole) < bound
    assert np.array_equal(scores_of(engine, samples), whole)
