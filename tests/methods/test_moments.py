"""Adam's moments as the optimizer held them, from real checkpoints and from files of other forms."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from prism.methods.checkpoints import find_checkpoints
from prism.methods.moments import load_moments
from prism.model import Model, load_model
from prism.scoring.maps import Moments
from tests.conftest import tiny_gpt2, tiny_llama
from tests.methods.training import STEPS, Held, Keep, train
from tests.scoring.exactness import encoded

HALF = STEPS // 2
LORA = {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def same(moments: Moments, held: Held, names: Iterable[str]) -> None:
    assert set(moments.first) == set(moments.second) == set(moments.steps) == set(names)
    for name in moments.first:
        assert torch.equal(moments.first[name], held[name]["exp_avg"]), name
        assert torch.equal(moments.second[name], held[name]["exp_avg_sq"]), name
        assert moments.steps[name] == int(held[name]["step"])


@pytest.fixture(scope="module")
def full(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Keep]:
    """A tied GPT-2 with biases and norms, trained in full."""
    folder = tmp_path_factory.mktemp("full")
    network = tiny_gpt2(len(tokenizer))
    samples = encoded(Model(network, tokenizer))
    keep = train(network.requires_grad_(True), samples, folder)
    tokenizer.save_pretrained(folder)
    return folder, keep


@pytest.mark.parametrize("which", ["all", "linear", "ln_|bias"])
def test_a_model_trained_in_full(which: str, full: tuple[Path, Keep]) -> None:
    folder, keep = full
    checkpoints = find_checkpoints([folder])
    assert [c.name for c in checkpoints] == [f"checkpoint-{HALF}", f"checkpoint-{STEPS}"]
    for checkpoint, step in zip(checkpoints, (HALF, STEPS), strict=True):
        model = load_model(checkpoint, tokenizer=folder, parameters=which)
        moments = load_moments(checkpoint, model)
        same(moments, keep.held[step], model.parameters)
        assert moments.step == step
        assert (moments.betas, moments.eps) == ((0.9, 0.999), 1e-8)


def test_the_learning_rate_is_the_mean_of_the_checkpoints_own_steps(full: tuple[Path, Keep]) -> None:
    folder, keep = full
    for step, rates in ((HALF, keep.rates[:HALF]), (STEPS, keep.rates[HALF:])):
        checkpoint = folder / f"checkpoint-{step}"
        moments = load_moments(checkpoint, load_model(checkpoint, tokenizer=folder))
        assert moments.learning_rate == pytest.approx(sum(rates) / len(rates))
        assert "trainer_state.json" in moments.rate_from


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "default"),
        ({"modules_to_save": ["lm_head"], "bias": "all", "use_dora": True}, "default"),
        ({"target_modules": ["q_proj", "embed_tokens"], "trainable_token_indices": None}, "default"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]}, "default"),
        ({}, "mine"),
    ],
)
def test_an_adapter(options: Mapping[str, Any], name: str, tokenizer: Any, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_llama(len(tokenizer), attention_bias=True).save_pretrained(base)
    tokenizer.save_pretrained(base)
    network = get_peft_model(
        tiny_llama(len(tokenizer), attention_bias=True), LoraConfig(**{**LORA, **options}), adapter_name=name
    )
    trained = {n: p.requires_grad for n, p in network.named_parameters()}
    samples = encoded(Model(network, tokenizer))
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(trained[key])
    keep = train(network, samples, tmp_path / "run")
    checkpoint = tmp_path / "run" / f"checkpoint-{STEPS}"
    model = load_model(base, adapter=checkpoint if name == "default" else checkpoint / name)
    held = {key.replace(f".{name}", ".default"): state for key, state in keep.held[STEPS].items()}
    same(load_moments(checkpoint, model), held, model.parameters)
    assert set(held) == set(model.parameters)
