"""The choice of a step, and the error that goes with it."""

from typing import Any

import pytest
import torch

from prism.data import Encoded
from prism.model import Model
from prism.scoring.backward import LoopEngine, StreamingEngine
from prism.scoring.calibrate import SAMPLES, NotGoodEnough, calibrated
from prism.scoring.forward import CentralDifference, ForwardMode
from tests.scoring.exactness import ROWS, encoded, random_direction
from tests.scoring.forward import curved, exact_scores, llama, off, scores_of, stacked, target_direction
from tests.scoring.test_adapters import lora
from tests.scoring.test_families import FAMILIES, build
from tests.small_memory import room_for

MIXTURES = [
    "mixtral", "qwen3-moe", "qwen2-moe", "olmoe", "granite-moe", "gpt-oss", "deepseek-v2", "deepseek-v3", "phi-moe",
    "jetmoe", "llama4",
]  # fmt: skip


def many(model: Model, count: int = 32) -> list[Encoded]:
    rows = [{"prompt": f"{r['prompt']} {n}", "completion": r["completion"]} for n in range(9) for r in ROWS]
    return encoded(model, rows[:count])


@pytest.mark.parametrize("count", [1, 5, 16, 32])
def test_the_error_is_that_from_the_exact_scores(count: int, tokenizer: Any) -> None:
    model = llama(tokenizer)
    v, samples = target_direction(model), many(model, count)
    reference = LoopEngine(model, stacked(v), norms=False)
    engine, error = calibrated(model, stacked(v), reference, samples, dual=False)
    assert isinstance(engine, CentralDifference) and 0 < error < 1e-3
    by_length = sorted(samples, key=len)
    chosen = [by_length[i] for i in sorted({i * count // SAMPLES for i in range(SAMPLES)})]
    assert len(chosen) == min(count, SAMPLES)
    again = off(scores_of(engine, chosen), exact_scores(model, chosen, v))  # in one batch, which rounds differently
    assert error == pytest.approx(again, rel=0.5)


@pytest.mark.parametrize("dual", [False, True])
def test_curvature_that_no_step_is_short_enough_for(dual: bool, tokenizer: Any) -> None:
    model = curved(tokenizer)
    v, samples = target_direction(model), encoded(model)
    reference = StreamingEngine(model, stacked(v), norms=False)
    if dual:
        engine, error = calibrated(model, stacked(v), reference, samples, dual=True)
        assert isinstance(engine, ForwardMode) and error < 1e-3
    else:
        with pytest.raises(NotGoodEnough, match=r"^its central difference is off by [\d.e-]+ of the scores$"):
            calibrated(model, stacked(v), reference, samples, dual=False)


def refusal(model: Model, dtype: torch.dtype | None = None) -> str:
    v = random_direction(model)
    with pytest.raises(NotGoodEnough) as caught:
        calibrated(model, stacked(v), LoopEngine(model, stacked(v), norms=False), encoded(model)[:2], dual=False)
    return str(caught.value)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_gets_no_central_difference(name: str, tokenizer: Any) -> None:
    model = Model(build(FAMILIES[name], len(tokenizer)), tokenizer, "linear")
    assert "can change which experts" in refusal(model)


def test_nor_do_dora_and_half_precision(tokenizer: Any) -> None:
    assert "DoRA" in refusal(Model(lora(llama(tokenizer).network, use_dora=True), tokenizer, "lora"))
    for dtype in (torch.bfloat16, torch.float16):
        assert f"vanishes in the rounding of {dtype}" in refusal(llama(tokenizer, dtype=dtype))


def test_a_model_without_forward_derivatives(tokenizer: Any) -> None:
    model = Model(build(FAMILIES["bloom"], len(tokenizer)).bfloat16(), tokenizer, "linear")
    v = random_direction(model)
    reference = LoopEngine(model, stacked(v), norms=False)
    with pytest.raises(
        NotGoodEnough, match=r"rounding of torch\.bfloat16 and the model has no forward-mode derivative"
    ):
        calibrated(model, stacked(v), reference, encoded(model), dual=True)


def test_samples_without_a_finite_score_prove_nothing(tokenizer: Any) -> None:
    model = llama(tokenizer)
    token = tokenizer("zebra", add_special_tokens=False)["input_ids"][-1]
    v, samples = target_direction(model), encoded(model)
    with torch.no_grad():
        model.network.model.embed_tokens.weight[token] = torch.nan
    broken = encoded(model, [{"prompt": "Which animal is striped?", "completion": "A zebra"}])
    reference = StreamingEngine(model, stacked(v), norms=False)
    _, error = calibrated(model, stacked(v), reference, [*broken, *samples], dual=False)
    assert error < 1e-3
    with pytest.raises(NotGoodEnough, match="no check sample has a finite score other than zero"):
        calibrated(model, stacked(v), reference, broken, dual=False)


def test_a_lack_of_memory_makes_batches_smaller(tokenizer: Any) -> None:
    model = llama(tokenizer)
    v, samples = target_direction(model), many(model)
    reference = StreamingEngine(model, stacked(v), norms=False)
    longest = max(len(s) for s in samples)
    with room_for(model.network, longest) as sizes:
        engine, error = calibrated(model, stacked(v), reference, samples, dual=False)
        assert isinstance(engine, CentralDifference) and error < 1e-3
        assert max(sizes) > longest and longest / 2 < sorted(s for s in sizes if s <= longest)[-1]
    with room_for(model.network, longest - 1):  # the longest sample is left out
        _, error = calibrated(model, stacked(v), reference, samples, dual=False)
        assert error < 1e-3
