"""Networks that compute in half precision, whatever their chosen parameters are kept in."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from prism.data import collate, load_target
from prism.model import Model
from prism.model.scaled import FACTOR, SUMMED
from prism.scoring.backward import LoopEngine, StreamingEngine, overflowed
from prism.scoring.check import check_model
from prism.scoring.choose import FORWARD_ROWS, EngineName, choose_engine
from prism.scoring.forward import ForwardMode
from prism.target import Direction, measure_target
from prism.target.pairs import pair_gradients
from tests import oracle
from tests.conftest import TEXTS, tiny_llama
from tests.scoring.exactness import encoded
from tests.scoring.forward import off, scores_of, target_direction


def with_trained_lora(network: Any) -> Any:
    """As PEFT attaches it: in float32 on a model in half precision; with a B that is not zero, as after training."""
    wrapped = get_peft_model(network, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return wrapped


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_float32_lora_on_a_model_in_half_precision_streams(dtype: torch.dtype, tokenizer: Any) -> None:
    model = Model(with_trained_lora(tiny_llama(len(tokenizer)).to(dtype)), tokenizer)
    assert (model.dtype, model.precision) == (torch.float32, dtype)
    wide = Model(with_trained_lora(tiny_llama(len(tokenizer)).to(dtype).float()), tokenizer)  # the very same weights
    assert wide.precision == torch.float32
    samples, direction = encoded(model), target_direction(wide)
    exact = choose_engine(wide, [direction], norms=False, probes=samples, engine="backward").engine
    kinds: dict[EngineName, type] = {"auto": StreamingEngine, "forward": ForwardMode}
    for name, kind in kinds.items():
        chosen = choose_engine(model, [direction], norms=False, probes=samples, engine=name, rows=FORWARD_ROWS)
        assert isinstance(chosen.engine, kind), chosen.why
        error = off(scores_of(chosen.engine, samples), scores_of(exact, samples))
        assert error < {torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    assert "float32, in a network that computes in torch." in repr(model)
    report = check_model(model, samples)
    assert report.engine == "backward" and report.tolerance == 5e-2


def test_a_half_precision_lora_on_a_float32_model_has_its_tolerance(tokenizer: Any) -> None:
    network = with_trained_lora(tiny_llama(len(tokenizer)))
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.bfloat16()
    model = Model(network, tokenizer)
    assert model.precision == torch.bfloat16
    chosen = choose_engine(model, [target_direction(model)], norms=True, probes=encoded(model))
    assert isinstance(chosen.engine, StreamingEngine), chosen.why
    assert np.isfinite(chosen.engine.score(collate(encoded(model))).scores.numpy()).all()


def sharp(tokenizer: Any, which: str, dtype: torch.dtype) -> Model:
    """A model in float16's own values that, as a trained one, knows most of its tokens well: gradients are small."""
    network = tiny_llama(len(tokenizer), tie_word_embeddings=False)
    with torch.no_grad():
        network.lm_head.weight.mul_(20)
        network.get_input_embeddings().weight.mul_(30)
    network = with_trained_lora(network.half()) if which == "lora" else network.half()
    return Model(network.to(dtype), tokenizer, which)


LONG = [(f"{q} " * 3, f"{a} " * 6) for q, a in TEXTS]
LONG_PAIRS = [{"prompt": q, "chosen": a, "rejected": LONG[(i + 1) % len(LONG)][1]} for i, (q, a) in enumerate(LONG)]


def difference(found: Direction, exact: Direction) -> float:
    return oracle.norm({n: found.tensors[n].double() - t for n, t in exact.tensors.items()}) / exact.norm()


@pytest.mark.parametrize("which", ["linear", "all", "lora"])
def test_float16_directions_lose_no_more_than_its_rounding(which: str, tokenizer: Any) -> None:
    """Without a scaled loss these are off by 7e-3 to 1.3e-2."""
    half, exact = (sharp(tokenizer, which, dtype) for dtype in (torch.float16, torch.float64))
    target, encoder = load_target(LONG_PAIRS * 2), half.encoder()
    measured, truth = (measure_target(m, target, encoder) for m in (half, exact))
    assert all(t.dtype == torch.float32 for t in measured.direction.tensors.values())
    assert difference(measured.direction, truth.direction) < 3e-3
    pairs = [encoder.pair(pair) for pair in load_target(LONG_PAIRS[:2])]
    for found, right in zip(pair_gradients(half, pairs), pair_gradients(exact, pairs), strict=True):
        assert found is not None and right is not None
        assert all(difference(a, b) < 3e-3 for a, b in zip(found, right, strict=True))


def tiny(direction: Direction) -> Direction:
    """So small that float16 would have nothing of it left."""
    return Direction({name: t * 1e-9 for name, t in direction.tensors.items()})


@pytest.mark.parametrize(("which", "norms"), [("linear", False), ("all", True), ("lora", True)])
def test_float16_scores_lose_no_more_than_its_rounding(which: str, norms: bool, tokenizer: Any) -> None:
    half, exact = (sharp(tokenizer, which, dtype) for dtype in (torch.float16, torch.float64))
    v = tiny(target_direction(exact))
    samples = encoded(half)
    scores, sizes = [], []
    for model in (half, exact):
        chosen = choose_engine(model, [v], norms=norms, probes=samples)
        assert isinstance(chosen.engine, StreamingEngine), chosen.why
        result = chosen.engine.score(collate(samples))
        scores.append(result.scores[:, 0].double().numpy())
        sizes.append(np.zeros(1) if result.norms is None else result.norms.double().numpy())
    assert off(*scores) < 2e-3
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=2e-3)
    loop = LoopEngine(half, {n: t[None].float() for n, t in v.tensors.items()}, norms=False)
    assert off(scores_of(loop, samples), scores[1]) < 2e-3


def test_what_overflows_is_scored_with_a_smaller_scale_and_nothing_else(tokenizer: Any) -> None:
    half, exact = (sharp(tokenizer, "linear", dtype) for dtype in (torch.float16, torch.float64))
    v = {n: t[None] for n, t in target_direction(exact).tensors.items()}
    samples = encoded(half)
    engine = StreamingEngine(half, v, norms=True)
    assert engine.scale is not None
    before = scores_of(engine, samples)
    for exponent in range(8, 30):  # to where some of the samples overflow, and some don't
        engine.scale.value = 2.0**exponent
        over = overflowed(engine._scored(engine.run(collate(samples)))).numpy()
        if over.any():
            break
    assert not over.all()
    untouched = engine._scored(engine.run(collate(samples))).scores[:, 0].double().numpy()
    found = engine.score(collate(samples))
    assert engine.scale.value == 2.0**exponent and bool(found.scores.isfinite().all())
    assert off(found.scores[:, 0].double().numpy(), before) < 2e-3
    assert np.array_equal(found.scores[:, 0].double().numpy()[~over], untouched[~over])
    engine.settle(collate(samples))
    assert engine.scale.value < 2.0**exponent and not overflowed(engine._scored(engine.run(collate(samples)))).any()
    settled = choose_engine(half, [target_direction(exact)], norms=False, probes=samples).engine
    assert isinstance(settled, StreamingEngine) and settled.scale is not None
    assert settled.scale.value <= min(SUMMED, 2.0**exponent) / FACTOR


def test_a_broken_sample_in_float16_does_not_lower_the_scale(tokenizer: Any) -> None:
    model = sharp(tokenizer, "linear", torch.float16)
    token = tokenizer("zebra", add_special_tokens=False)["input_ids"][-1]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[token] = torch.nan
    samples = [*encoded(model), *encoded(model, [{"prompt": "Which animal is striped?", "completion": "A zebra"}])]
    v = {n: t[None] for n, t in target_direction(model).tensors.items()}
    engine = StreamingEngine(model, v, norms=False)
    passes = 0

    def counted(batch: Any) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return run(batch)

    run, engine.run = engine.run, counted  # type: ignore[method-assign]
    result = engine.score(collate(samples))
    assert passes == 1
    assert result.scores[:-1].isfinite().all() and not result.losses[-1].isfinite()
