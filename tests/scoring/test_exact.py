"""Scores and gradient norms against per-sample autograd in float64, on variable-length text."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma2Config, Gemma2ForCausalLM

from prism.data import collate, load_pool, load_target
from prism.model import Model
from prism.scoring import ScoreTable, score_pool
from prism.scoring.backward import LoopEngine, StreamingEngine
from prism.scoring.choose import choose_engine
from prism.target import measure_target
from tests import oracle
from tests.conftest import Rows, tiny_gpt2, tiny_llama
from tests.scoring.exactness import random_direction


def tiny_gemma(vocabulary: int) -> Any:
    """Scaled, tied embeddings, norms of 1 + w, soft-capped logits."""
    torch.manual_seed(3)
    sizes = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
    }
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=vocabulary, num_key_value_heads=2, **sizes))


BUILDERS: dict[str, Callable[[int], Any]] = {
    "llama": tiny_llama,
    "llama-tied": lambda v: tiny_llama(v, tie_word_embeddings=True),
    "llama-biased": lambda v: tiny_llama(v, attention_bias=True, mlp_bias=True),
    "gpt2": tiny_gpt2,
    "gemma2": tiny_gemma,
}


def make(name: str, which: str, tokenizer: Any) -> Model:
    network = BUILDERS[name](len(tokenizer))
    if which == "lora":
        network = get_peft_model(network, LoraConfig(r=3, target_modules="all-linear"))
        for key, parameter in network.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.1)
    return Model(network.double(), tokenizer, which)


@pytest.mark.parametrize("which", ["lora", "linear", "all", "down_proj|c_proj|bias|norm|ln_"])
@pytest.mark.parametrize("name", list(BUILDERS))
@pytest.mark.parametrize("direction", ["random", "target"])
def test_scores_and_norms_equal_per_sample_autograd(
    name: str, which: str, direction: str, tokenizer: Any, pool_rows: Rows, pair_rows: Rows
) -> None:
    model = make(name, which, tokenizer)
    encoder = model.encoder(max_length=48)
    pool = load_pool(pool_rows)
    v = random_direction(model)
    if direction == "target":
        v = measure_target(model, load_target(pair_rows), encoder).direction
    result = score_pool(model, pool, v, encoder, batch_tokens=150, norms=True)
    assert result.details["engine"] == "backward"
    scale = v.norm()
    bound = 1e-6 if name == "gemma2" else 1e-10  # Gemma's eager attention computes its softmax in float32
    for row, score, loss, size in zip(
        pool, *(result.column(c) for c in ("score", "loss", "gradient_norm")), strict=True
    ):
        true_loss, gradient = oracle.sample_gradient(model, encoder.row(row))
        true_norm = oracle.norm(gradient)
        assert abs(score - oracle.dot(gradient, v.tensors)) <= bound * true_norm * scale
        assert abs(size - true_norm) <= bound * true_norm
        assert abs(loss - true_loss) <= bound * true_loss


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("name", ["llama-tied", "gpt2"])
def test_many_directions_in_one_pass(name: str, count: int, norms: bool, tokenizer: Any, pool_rows: Rows) -> None:
    model = make(name, "all", tokenizer)
    encoder = model.encoder()
    samples = [encoder.row(row) for row in load_pool(pool_rows)]
    directions = [random_direction(model, seed) for seed in range(count)]
    engine = choose_engine(model, directions, norms=norms, probes=samples).engine
    assert isinstance(engine, StreamingEngine)
    scores = engine.score(collate(samples)).scores
    for sample, row in zip(samples, scores, strict=True):
        _, gradient = oracle.sample_gradient(model, sample)
        for direction, score in zip(directions, row.tolist(), strict=True):
            bound = 1e-10 * oracle.norm(gradient) * direction.norm()
            assert abs(score - oracle.dot(gradient, direction.tensors)) <= bound


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_padding_token_inside_a_sample(name: str, tokenizer: Any) -> None:
    """torch gives an embedding's padding row no gradient, also where the token is really in the text."""
    model = make(name, "all", tokenizer)
    pad = tokenizer.decode([0])
    pool = load_pool([{"prompt": f"What does {pad} mean, and {pad}?", "completion": f"It is {pad}."}])
    encoder = model.encoder()
    sample = encoder.row(next(iter(pool)))
    assert (sample.ids == 0).sum() == 3
    v = random_direction(model)
    result = score_pool(model, pool, v, encoder, norms=True)
    _, gradient = oracle.sample_gradient(model, sample)
    assert result.column("score")[0] == pytest.approx(oracle.dot(gradient, v.tensors), rel=1e-10)
    assert result.column("gradient_norm")[0] == pytest.approx(oracle.norm(gradient), rel=1e-10)


def test_the_loop_engine_is_exact_too(tokenizer: Any, pool_rows: Rows) -> None:
    model = make("llama", "linear", tokenizer)
    encoder = model.encoder()
    samples = [encoder.row(row) for row in load_pool(pool_rows)]
    v = random_direction(model)
    result = LoopEngine(model, {n: t[None] for n, t in v.tensors.items()}, norms=True).score(collate(samples))
    assert result.norms is not None
    for i, sample in enumerate(samples):
        _, gradient = oracle.sample_gradient(model, sample)
        assert float(result.scores[i, 0]) == pytest.approx(oracle.dot(gradient, v.tensors), rel=1e-9)
        assert float(result.norms[i]) == pytest.approx(oracle.norm(gradient), rel=1e-10)


def float32_scores(rows: Rows, tokenizer: Any, dtype: torch.dtype = torch.float32, **options: Any) -> ScoreTable:
    model = Model(tiny_llama(len(tokenizer)).to(dtype), tokenizer, "linear")
    direction = random_direction(Model(tiny_llama(len(tokenizer)), tokenizer, "linear"))
    return score_pool(model, load_pool(rows), direction, model.encoder(), norms=True, **options)


def by_id(scores: ScoreTable) -> dict[str, float]:
    return dict(zip(scores.column("id").tolist(), scores.column("score").tolist(), strict=True))


def test_batching_and_order_change_no_score(tokenizer: Any, pool_rows: Rows) -> None:
    reference = by_id(float32_scores(pool_rows, tokenizer, batch_tokens=10_000))
    largest = max(abs(s) for s in reference.values())
    for rows, tokens in ((pool_rows, 1), (pool_rows, 120), (pool_rows[::-1], 200)):
        again = by_id(float32_scores(rows, tokenizer, batch_tokens=tokens))
        assert again.keys() == reference.keys()
        assert max(abs(again[i] - reference[i]) for i in reference) <= 1e-5 * largest


def test_the_same_arguments_give_the_same_bits(tokenizer: Any, pool_rows: Rows) -> None:
    first, second = (float32_scores(pool_rows, tokenizer, batch_tokens=150) for _ in range(2))
    assert first.table.equals(second.table)


def test_bfloat16_stays_near_float32(tokenizer: Any, pool_rows: Rows) -> None:
    exact, rough = (float32_scores(pool_rows, tokenizer, dtype) for dtype in (torch.float32, torch.bfloat16))
    direction = random_direction(Model(tiny_llama(len(tokenizer)), tokenizer, "linear"))
    bound = 0.02 * exact.column("gradient_norm") * direction.norm()
    assert (np.abs(exact.column("score") - rough.column("score")) <= bound).all()


def test_rows_come_back_in_the_pools_order_across_shards(tokenizer: Any) -> None:
    rows = [
        {"id": f"row-{i:04d}", "prompt": "Count", "completion": "one two three. " * (1 + i % 7)} for i in range(1100)
    ]
    result = float32_scores(rows, tokenizer)
    assert result.column("id").tolist() == [row["id"] for row in rows]
    assert result.column("index").tolist() == list(range(1100))
