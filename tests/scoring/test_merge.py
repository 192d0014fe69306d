"""LoRA folded into the weights for a pass: the same losses, and nothing stays."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from prism.data import collate
from prism.model import Model, token_losses
from prism.scoring.merge import merged_adapters
from tests.conftest import tiny_gpt2, tiny_llama
from tests.scoring.doubled import Doubled
from tests.scoring.exactness import encoded
from tests.scoring.test_adapters import lora, two_adapters

Wrapped = Callable[[Any], Any]
PLAIN: dict[str, Wrapped] = {
    "alpha": lambda n: lora(n, lora_alpha=11),
    "rslora": lambda n: lora(n, lora_alpha=11, use_rslora=True),
    "dropout": lambda n: lora(n, lora_dropout=0.5),
    "biases": lambda n: lora(n, bias="all"),
    "rank-pattern": lambda n: lora(n, rank_pattern={"q_proj": 5}, alpha_pattern={"q_proj": 2}),
    "both-of-two": lambda n: two_adapters(n, ["default", "second"]),
    "one-of-two": lambda n: two_adapters(n, ["second"]),
}
OTHERS: dict[str, tuple[Callable[[int], Any], Wrapped]] = {
    "dora": (tiny_llama, lambda n: lora(n, use_dora=True)),
    "lora-bias": (tiny_llama, lambda n: lora(n, lora_bias=True)),
    "half": (tiny_llama, lambda n: lora(n.to(torch.bfloat16))),
    "conv1d": (tiny_gpt2, lambda n: lora(n, fan_in_fan_out=True)),
    "embedding": (tiny_llama, lambda n: lora(n, target_modules=["embed_tokens"])),
}


def filled(network: Any) -> Any:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    return network


def patched(network: Any) -> set[str]:
    return {name for name, module in network.named_modules() if "forward" in vars(module)}


@pytest.mark.parametrize("name", list(PLAIN))
def test_plain_lora_gives_the_same_losses(name: str, tokenizer: Any) -> None:
    network = filled(PLAIN[name](tiny_llama(len(tokenizer), attention_bias=True))).double()
    model = Model(network, tokenizer, "lora")
    batch = collate(encoded(model))
    with torch.no_grad(), Doubled():
        expected = token_losses(network, batch)
        with merged_adapters(network):
            layers = {n for n, m in network.named_modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")}
            assert patched(network) == layers
            merged = token_losses(network, batch)
    assert not torch.equal(merged, expected)  # it was computed in another way
    torch.testing.assert_close(merged, expected, rtol=1e-12, atol=0)
    assert not patched(network)


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_kinds_are_left_alone(name: str, tokenizer: Any) -> None:
    base, wrap = OTHERS[name]
    with merged_adapters(network := wrap(base(len(tokenizer)))):
        assert not patched(network)


def test_hooks_on_what_is_folded_are_heard(tokenizer: Any) -> None:
    network = lora(tiny_llama(len(tokenizer)), target_modules=["q_proj"])
    layers = network.base_model.model.model.layers
    layers[0].self_attn.q_proj.base_layer.register_forward_hook(lambda *_: None)
    layers[1].self_attn.q_proj.lora_A["default"].register_forward_pre_hook(lambda *_: None)
    with merged_adapters(network):
        assert not patched(network)


@pytest.mark.parametrize("state", ["merged", "disabled", "idle"])
def test_adapters_that_do_not_act_do_not_act(state: str, tokenizer: Any) -> None:
    network = filled(
        get_peft_model(tiny_llama(len(tokenizer)).double(), LoraConfig(**{"r": 3, "target_modules": ["q_proj"]}))
    )
    if state == "merged":
        network.merge_adapter()
    elif state == "disabled":
        network.base_model.disable_adapter_layers()
    else:
        network.add_adapter("idle", LoraConfig(r=3, target_modules=["v_proj"]))
        network.base_model.set_adapter("idle")
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        expected = network(input_ids=ids).logits
        with merged_adapters(network):
            torch.testing.assert_close(network(input_ids=ids).logits, expected, rtol=1e-6, atol=1e-6)


def test_nothing_stays_after_an_error(tokenizer: Any) -> None:
    network = lora(tiny_llama(len(tokenizer)))
    with pytest.raises(ZeroDivisionError), merged_adapters(network):
        len(patched(network)) // 0
    assert not patched(network)
