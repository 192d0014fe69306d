"""What PEFT makes of a model, against per-sample autograd: scalings, DoRA, several adapters, saved modules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from prism.model import Model
from tests.conftest import tiny_gpt2, tiny_llama
from tests.scoring.exactness import check_exact, encoded
from tests.scoring.test_families import FAMILIES, build, with_lora

Wrapped = Callable[[Any], Any]
LINEAR = {"r": 3, "target_modules": "all-linear"}


def lora(network: Any, **options: Any) -> Any:
    return get_peft_model(network, LoraConfig(**{**LINEAR, **options}))


def two_adapters(network: Any, active: list[str]) -> Any:
    wrapped: Any = lora(network, lora_alpha=4)
    wrapped.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    wrapped.base_model.set_adapter(active)
    return wrapped


def gpt_oss_experts(network: Any) -> Any:
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    return lora(network, target_modules=["q_proj"], target_parameters=parameters)


def llama(vocabulary: int) -> Any:
    return tiny_llama(vocabulary, attention_bias=True)


def tied(vocabulary: int) -> Any:
    return tiny_llama(vocabulary, tie_word_embeddings=True)


def mixtral(vocabulary: int) -> Any:
    return build(FAMILIES["mixtral"], vocabulary)


def gpt_oss(vocabulary: int) -> Any:
    return build(FAMILIES["gpt-oss"], vocabulary)


ADAPTERS: dict[str, tuple[Callable[[int], Any], Wrapped]] = {
    "alpha": (llama, lambda n: lora(n, lora_alpha=11)),
    "rslora": (llama, lambda n: lora(n, lora_alpha=11, use_rslora=True)),
    "dropout": (llama, lambda n: lora(n, lora_dropout=0.5)),
    "lora-bias": (llama, lambda n: lora(n, lora_bias=True)),
    "biases": (llama, lambda n: lora(n, bias="all")),
    "biases-of-layers": (llama, lambda n: lora(n, bias="lora_only", target_modules=["q_proj", "up_proj"])),
    "dora": (llama, lambda n: lora(n, use_dora=True, lora_alpha=11)),
    "dora-conv1d": (tiny_gpt2, lambda n: lora(n, use_dora=True, fan_in_fan_out=True)),
    "rank-pattern": (llama, lambda n: lora(n, rank_pattern={"q_proj": 5}, alpha_pattern={"q_proj": 2})),
    "one-of-two": (llama, lambda n: two_adapters(n, ["second"])),
    "both-of-two": (llama, lambda n: two_adapters(n, ["default", "second"])),
    "head": (llama, lambda n: lora(n, target_modules=["lm_head", "v_proj"])),
    "dora-head": (llama, lambda n: lora(n, target_modules=["lm_head", "v_proj"], use_dora=True)),
    "embedding": (llama, lambda n: lora(n, target_modules=["embed_tokens", "v_proj"])),
    "saved-head": (llama, lambda n: lora(n, target_modules=["v_proj"], modules_to_save=["lm_head"])),
    "saved-ends": (tied, lambda n: lora(n, target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"])),
    "saved-norm": (llama, lambda n: lora(n, target_modules=["v_proj"], modules_to_save=["post_attention_layernorm"])),
    "experts": (mixtral, lambda n: lora(n, lora_alpha=7)),
    "experts-transposed": (gpt_oss, gpt_oss_experts),
}

# DoRA takes the bias of the layer below off behind its back; gpt-oss has sinks.
LOOPS_WITH_ALL = {"dora", "dora-conv1d", "dora-head", "experts-transposed"}


@pytest.mark.parametrize("which", ["lora", "all"])
@pytest.mark.parametrize("name", list(ADAPTERS))
def test_scores_and_norms_equal_per_sample_autograd(name: str, which: str, tokenizer: Any) -> None:
    base, wrap = ADAPTERS[name]
    network = wrap(base(len(tokenizer)))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if "lora_" in key:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model = Model(network.double(), tokenizer, which)
    said = check_exact(model, encoded(model), 1e-6 if name == "experts-transposed" else 1e-10)
    assert said.startswith("per-sample" if which == "all" and name in LOOPS_WITH_ALL else "backward"), said


@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_one_of_the_factors_of_experts(factor: str, tokenizer: Any) -> None:
    model = Model(with_lora(mixtral(len(tokenizer))), tokenizer, factor)
    assert check_exact(model, encoded(model)).startswith("backward")


def test_tokens_of_their_own_go_by_the_per_sample_engine(tokenizer: Any) -> None:
    network = lora(tiny_llama(len(tokenizer)), target_modules=["v_proj"], trainable_token_indices=[40, 41, 300])
    model = Model(network.double(), tokenizer, "lora")
    assert any("trainable_tokens_delta" in name for name in model.parameters)
    assert check_exact(model, encoded(model)).startswith("per-sample")
