import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.command import prism, refusal
from tests.conftest import Rows, tiny_llama
from tests.scoring.test_families import FAMILIES, build

Save = Callable[[Any], Path]


@pytest.fixture
def save(tmp_path: Path, tokenizer: Any) -> Save:
    def write(network: Any) -> Path:
        folder = tmp_path / "saved"
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


def test_a_model_that_streams(model_folder: Path) -> None:
    outcome = prism("check", model_folder)
    assert (outcome.code, outcome.err) == (0, "")
    for said in ("LlamaForCausalLM", "backward", "of the squared gradient norm, on 5 samples", "(Linear)"):
        assert said in outcome.out


def test_json_and_a_pool(model_folder: Path, pool_rows: Rows, write_jsonl: Callable[[str, Rows], Path]) -> None:
    pool = write_jsonl("pool.jsonl", pool_rows)
    outcome = prism(
        *(
            "check",
            model_folder,
            "--pool",
            pool,
            "--samples",
            "3",
            "--parameters",
            "all",
            "--dtype",
            "float64",
            "--json",
        )
    )
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(outcome.out)
    assert (report["engine"], report["samples"], report["tolerance"]) == ("backward", 3, 1e-6)
    assert 0 <= report["error"] < 1e-10
    assert report["module"].startswith(report["parameter"].rpartition(".")[0])


def test_an_adapter(model_folder: Path, tmp_path: Path, tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], init_lora_weights=False)
    get_peft_model(tiny_llama(len(tokenizer)), config).save_pretrained(tmp_path / "adapter")
    outcome = prism("check", model_folder, "--adapter", tmp_path / "adapter", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["engine"] == "backward"


def test_a_model_that_goes_sample_by_sample(save: Save, tokenizer: Any) -> None:
    folder = save(build(FAMILIES["gpt-oss"], len(tokenizer)).float())
    outcome = prism("check", folder, "--parameters", "all")
    assert (outcome.code, outcome.err) == (0, "")
    assert "per-sample" in outcome.out and "sinks: a GptOssAttention uses it in" in outcome.out


def test_a_failed_check_names_the_module(save: Save, tokenizer: Any) -> None:
    said = refusal("check", save(build(FAMILIES["mamba"], len(tokenizer)).float()), "--parameters", "linear")
    assert said.startswith("error: backbone.layers.")
    assert ".mixer.dt_proj (Linear) fails the self-check: the streamed products of " in said


def test_it_refuses(model_folder: Path, tmp_path: Path) -> None:
    assert "the model nowhere does not exist" in refusal("check", "nowhere")
    assert "matches no parameter name" in refusal("check", model_folder, "--parameters", "nothing_like_it")
    assert "nowhere.jsonl" in refusal("check", model_folder, "--pool", tmp_path / "nowhere.jsonl")
    weights = load_file(model_folder / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], torch.nan)
    save_file(weights, model_folder / "model.safetensors", {"format": "pt"})
    assert "no check sample has a finite loss and gradient" in refusal("check", model_folder)
