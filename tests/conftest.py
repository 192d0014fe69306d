"""Small real models and texts that the tests share; nothing is fetched."""

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: before torch, and what tests start, count theirs
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import prism

DEMO_MODEL = Path(prism.__file__).parent / "demo" / "model"
Rows = list[dict[str, Any]]

TEXTS = [
    ("What is the capital of France?", "Paris."),
    ("Write a short poem about the sea.", "The sea is wide,\nthe sea is deep,\nit rocks the tired boats to sleep."),
    ("Add 17 and 25.", "17 + 25 = 42"),
    (
        "Name three fruits — and say which one you like best, with a reason.",
        "Apples, pears and plums. I like plums, as they are sweet.",
    ),
    ("Übersetze: good morning", "Guten Morgen ☀"),
    (
        "Why is the sky blue?",
        "Air scatters short wavelengths of light more than long ones, so blue light reaches us from all sides.",
    ),
    ("Say hi", "Hi!"),
]


def pytest_collection_finish() -> None:
    """What is imported stays: without it, each search for room looks through half a million objects of modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(DEMO_MODEL)


@pytest.fixture
def pool_rows() -> Rows:
    return [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in TEXTS]


@pytest.fixture
def pair_rows() -> Rows:
    return [
        {"prompt": q, "chosen": a, "rejected": TEXTS[(i + 1) % len(TEXTS)][1]} for i, (q, a) in enumerate(TEXTS[:4])
    ]


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, Rows], Path]:
    def write(name: str, rows: Rows) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def tiny_llama(vocabulary: int, **changes: Any) -> Any:
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            **{
                "vocab_size": vocabulary,
                "hidden_size": 24,
                "intermediate_size": 40,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 256,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 2,
                **changes,
            }
        )
    )


def tiny_gpt2(vocabulary: int, **changes: Any) -> Any:
    torch.manual_seed(2)
    return GPT2LMHeadModel(
        GPT2Config(
            **{
                "vocab_size": vocabulary,
                "n_embd": 24,
                "n_layer": 2,
                "n_head": 4,
                "n_positions": 256,
                "bos_token_id": 1,
                "eos_token_id": 2,
                **changes,
            }
        )
    )


@pytest.fixture
def model_folder(tmp_path: Path, tokenizer: Any) -> Path:
    """A saved 2-layer Llama with the demo tokenizer."""
    folder = tmp_path / "model"
    tiny_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
