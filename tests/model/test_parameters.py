import copy
import sys
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from prism.errors import ConfigError, ModelError
from prism.model import choose_parameters
from prism.model.parameters import decoder_layers, peft_class
from tests.conftest import tiny_gpt2, tiny_llama

LORA = {"r": 2, "task_type": "CAUSAL_LM"}


def kinds(network: nn.Module, which: str) -> set[str]:
    """Names of what is chosen, with one layer standing for all of them."""
    chosen = choose_parameters(network, which)
    assert list(chosen) == [n for n, _ in network.named_parameters() if n in chosen]
    assert all(parameter is network.get_parameter(name) for name, parameter in chosen.items())
    return {name.replace(".1.", ".0.", 1) for name in chosen}


def test_linear_in_llama() -> None:
    parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    parts += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    network = tiny_llama(64, attention_bias=True)
    assert kinds(network, "linear") == {f"model.layers.0.{part}.weight" for part in parts}
    assert len(choose_parameters(network, "linear")) == 2 * len(parts)


def test_linear_in_gpt2_are_its_conv1d() -> None:
    parts = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert kinds(tiny_gpt2(64), "linear") == {f"transformer.h.0.{part}.weight" for part in parts}


def test_linear_in_mixtral_includes_experts_and_routers() -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40, "num_local_experts": 3}
    network = MixtralForCausalLM(MixtralConfig(vocab_size=64, num_attention_heads=4, num_key_value_heads=2, **sizes))
    parts = [f"self_attn.{x}_proj.weight" for x in "qkvo"]
    parts += ["mlp.gate.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    assert kinds(network, "linear") == {f"model.layers.0.{part}" for part in parts}


def test_linear_leaves_out_biases_and_norms_of_bloom() -> None:
    network = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=24, n_layer=2, n_head=4))
    parts = ["self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"]
    assert kinds(network, "linear") == {f"transformer.h.0.{part}.weight" for part in parts}


def test_all_is_every_parameter_once() -> None:
    network = tiny_gpt2(64)
    chosen = choose_parameters(network, "all")
    assert list(chosen) == [name for name, _ in network.named_parameters()]
    assert "lm_head.weight" not in chosen  # tied to the embedding


def test_auto_is_linear_without_an_adapter_and_lora_with_one() -> None:
    plain = tiny_llama(64)
    assert set(choose_parameters(plain)) == set(choose_parameters(plain, "linear"))
    wrapped = get_peft_model(copy.deepcopy(plain), LoraConfig(target_modules=["q_proj"], **LORA))
    assert kinds(wrapped, "auto") == {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{x}.default.weight" for x in "AB"
    }
    assert not {n for n in choose_parameters(wrapped, "linear") if "lora_" in n}
    assert len(choose_parameters(wrapped, "linear")) == len(choose_parameters(plain, "linear"))


def test_only_the_active_adapter_counts() -> None:
    config = LoraConfig(target_modules=["q_proj"], **LORA)
    wrapped: Any = get_peft_model(tiny_llama(64), config)
    wrapped.add_adapter("second", config)
    wrapped.set_adapter("second")
    assert all(".second." in name for name in choose_parameters(wrapped, "lora"))


def test_lora_is_all_that_the_adapter_trains() -> None:
    options = {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"], **LORA}
    factors = {f"base_model.model.model.layers.0.self_attn.v_proj.lora_{x}.default.weight" for x in "AB"}
    saved = {"base_model.model.lm_head.modules_to_save.default.weight"}
    own = {f"base_model.model.model.layers.0.self_attn.{x}_proj.bias" for x in "qko"}
    base = {"base_model.model.model.layers.0.self_attn.v_proj.base_layer.bias"}
    for bias, more in (("none", set()), ("lora_only", base), ("all", base | own)):
        network = get_peft_model(tiny_llama(64, attention_bias=True), LoraConfig(bias=bias, **options))
        assert kinds(network, "auto") == factors | saved | more


def test_tokens_that_an_adapter_trains() -> None:
    config = LoraConfig(target_modules=["v_proj"], trainable_token_indices=[3, 4], **LORA)
    chosen = choose_parameters(get_peft_model(tiny_llama(64), config))
    assert [n for n in chosen if "lora_" not in n] == [
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default"
    ]


def test_an_adapter_that_is_off_has_no_gradients() -> None:
    config = LoraConfig(target_modules=["q_proj"], **LORA)
    network: Any = get_peft_model(tiny_llama(64), config)
    network.base_model.disable_adapter_layers()
    with pytest.raises(ModelError, match=r"no gradients, since its layer \S+layers.0.self_attn.q_proj is disabled"):
        choose_parameters(network)
    network = get_peft_model(tiny_llama(64), config)
    network.merge_adapter()
    with pytest.raises(ModelError, match=r"q_proj is merged"):
        choose_parameters(network, "lora")


def test_a_regular_expression_is_searched_in_the_names() -> None:
    assert kinds(tiny_llama(64), r"(up|down)_proj|^lm_head") == {
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "lm_head.weight",
    }


def test_what_can_not_be_chosen() -> None:
    network = tiny_llama(64)
    with pytest.raises(ConfigError, match=r"is not lora, linear, all or a regular expression: unterminated"):
        choose_parameters(network, "layers[")
    with pytest.raises(ConfigError, match=r"matches no parameter name; names look like model.embed_tokens.weight, "):
        choose_parameters(network, "Linear")
    with pytest.raises(ModelError, match="parameters 'lora': the model has no LoRA adapter"):
        choose_parameters(network, "lora")


def test_quantised_weights_carry_no_gradient() -> None:
    network = tiny_llama(64)
    network.lm_head.weight = nn.Parameter(network.lm_head.weight.to(torch.int8), requires_grad=False)
    assert "lm_head.weight" not in choose_parameters(network, "linear")
    for which in ("all", "lm_head"):
        with pytest.raises(ModelError, match=rf"parameters '{which}': lm_head.weight \(torch.int8\) is quantised, and"):
            choose_parameters(network, which)


def test_a_model_without_decoder_layers() -> None:
    network = tiny_llama(64)
    network.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match="no list of 5 decoder layers was found in a LlamaForCausalLM: give --param"):
        decoder_layers(network)


def test_linear_leaves_out_the_biases_of_experts() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = GptOssForCausalLM(
        GptOssConfig(vocab_size=40, head_dim=8, num_key_value_heads=1, num_local_experts=3, **sizes)
    )
    held = dict(network.named_parameters())
    assert held["model.layers.0.mlp.experts.gate_up_proj_bias"].dim() == 2
    chosen = choose_parameters(network, "linear")
    assert not [name for name in chosen if name.endswith("bias")]
    for part in ("experts.gate_up_proj", "experts.down_proj", "router.weight"):
        assert f"model.layers.1.mlp.{part}" in chosen


def test_no_module_is_of_pefts_where_it_was_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peft_class("tuners.lora.layer", "LoraLayer") is LoraLayer
    with pytest.raises(AttributeError):  # rather than that adapters are not seen
        peft_class("tuners.lora.layer", "Renamed")
    monkeypatch.delitem(sys.modules, "peft")
    assert peft_class("tuners.lora.layer", "LoraLayer") == ()
