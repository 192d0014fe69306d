"""8-bit and 4-bit bases, by bitsandbytes itself on a CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prism import load_model, load_pool, load_target
from prism.config import Quantize, SelectConfig
from prism.data import collate
from prism.errors import ConfigError, ModelError
from prism.model import Model, quantized
from prism.run.explain import explain_row
from prism.run.select import run_select
from prism.scoring.backward import StreamingEngine
from prism.scoring.choose import FORWARD_ROWS, choose_engine
from prism.scoring.explain import explain
from prism.target import measure_target
from tests import oracle
from tests.conftest import DEMO_MODEL, Rows
from tests.scoring.exactness import encoded
from tests.scoring.forward import PAIRS, off, scores_of

BITS: list[Quantize] = ["8bit", "4bit"]
bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the extra quantize")


def trained(model: Model) -> Model:
    """With a B that is not zero, as after training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.parameters.items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def dequantized(model: Model) -> Model:
    """The same network with plain matrices of the values that the quantised ones stand for, in float64."""
    network = load_model(DEMO_MODEL, parameters="lora", dtype="float32").network
    theirs = dict(model.network.named_modules())
    with torch.no_grad():
        for name, module in network.named_modules():
            packed = theirs[name]
            if type(packed).__module__ == "bitsandbytes.nn.modules":
                module.weight.copy_(weights_of(packed))
            elif "weight" in module._parameters:
                module.weight.copy_(packed.weight)
    return Model(network.double(), model.tokenizer, "lora")


def weights_of(packed: Any) -> torch.Tensor:
    if packed.weight.dtype == torch.uint8:
        return bitsandbytes.functional.dequantize_4bit(packed.weight.data, packed.weight.quant_state)  # type: ignore[no-any-return]
    values = packed.weight.data if packed.state.CB is None else packed.state.CB
    scales = packed.weight.SCB if packed.state.SCB is None else packed.state.SCB
    return values * scales[:, None] / 127  # type: ignore[no-any-return]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_are_those_of_the_model_that_the_bits_stand_for(bits: Quantize, dtype: str) -> None:
    model = trained(load_model(DEMO_MODEL, quantize=bits, dtype=dtype))
    assert all("lora_" in name for name in model.parameters)
    assert any("a new LoRA of rank 16 was attached" in notice for notice in model.notices)
    assert model.precision == (torch.float32 if (bits, dtype) == ("4bit", "float32") else torch.bfloat16)
    exact, samples = dequantized(model), encoded(model)
    direction = measure_target(exact, load_target(PAIRS), exact.encoder()).direction
    chosen = choose_engine(model, [direction], norms=True, probes=samples)
    assert isinstance(chosen.engine, StreamingEngine), chosen.why
    result = chosen.engine.score(collate(samples))
    truth = [oracle.sample_gradient(exact, sample)[1] for sample in samples]
    error = off(result.scores[:, 0].double().numpy(), np.array([oracle.dot(g, direction.tensors) for g in truth]))
    assert error < {("4bit", "float32"): 1e-4, ("4bit", "bfloat16"): 3e-2}.get((bits, dtype), 0.1)
    assert result.norms is not None
    np.testing.assert_allclose(result.norms, [oracle.norm(g) for g in truth], rtol=1e-4 if error < 1e-4 else 5e-2)


def test_central_differences_see_four_bits_as_they_are() -> None:
    model = trained(load_model(DEMO_MODEL, quantize="4bit", dtype="float32"))
    samples = encoded(model)
    direction = measure_target(model, load_target(PAIRS), model.encoder()).direction
    chosen = choose_engine(model, [direction], norms=False, probes=samples, rows=FORWARD_ROWS)
    assert chosen.engine.name == "forward (central difference)", chosen.why
    assert chosen.reference is not None
    assert off(scores_of(chosen.engine, samples), scores_of(chosen.reference, samples)) < 1e-3
    view = explain(model, samples[1], direction)
    assert view.how.startswith("one backward pass per token, since there is no forward-mode derivative (products with")
    assert view.score == pytest.approx(scores_of(chosen.reference, samples[1:2])[0], rel=1e-4)


@pytest.mark.parametrize("bits", BITS)
def test_a_run(bits: Quantize, pool_rows: Rows, pair_rows: Rows, write_jsonl: Callable[..., Path]) -> None:
    pool, target = write_jsonl("pool.jsonl", pool_rows), write_jsonl("pairs.jsonl", pair_rows)
    config = SelectConfig(
        model=str(DEMO_MODEL), pool=[str(pool)], target=[str(target)], out=str(pool.parent / "run"),
        budget="2", quantize=bits, dtype="float32", pair_scores=True,
    )  # fmt: skip
    run = run_select(config)
    row = run.selection.scores.ids([0])[0]
    again = explain_row(run.folder, row)
    assert again["score"] == pytest.approx(again["run_score"], rel=1e-2 if bits == "8bit" else 1e-4)
    assert run_select(config).selection.scores.details["reused"] == len(pool_rows)


@pytest.mark.parametrize("bits", BITS)
def test_a_checkpoint_that_is_quantised_already(bits: Quantize, tmp_path: Path) -> None:
    first = load_model(DEMO_MODEL, quantize=bits, dtype="float32")
    base = load_model(DEMO_MODEL, quantize=bits, dtype="float32").network.unload()
    base.save_pretrained(tmp_path / "model")
    first.tokenizer.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["quantization_config"]
    again = load_model(tmp_path / "model")
    rows = load_pool([{"prompt": "Say hi", "completion": "Hi!"}])
    batch = collate([first.encoder().row(next(iter(rows)))])
    v = {n: torch.ones(1, *p.shape) for n, p in first.parameters.items()}
    scores = [StreamingEngine(m, v, norms=False).score(batch).scores for m in (first, again)]
    torch.testing.assert_close(*scores)
    with pytest.raises(
        ConfigError, match=r"the model is quantised already \(bitsandbytes\): leave --quantize 4bit out"
    ):
        load_model(tmp_path / "model", quantize="4bit")


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("which", ["linear", "all", "down_proj"])
def test_weights_in_few_bits_carry_no_gradient(bits: Quantize, which: str) -> None:
    name = "down_proj" if which == "down_proj" else "self_attn.q_proj"
    number = "int8" if bits == "8bit" else "uint8"
    refusal = rf"parameters '{which}': model.layers.0.*{name}.weight \(torch.{number}\) is quantised, and"
    with pytest.raises(ModelError, match=refusal):
        load_model(DEMO_MODEL, quantize=bits, parameters=which)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="multiply in float32 at most: choose another --dtype than float64"):
        load_model(DEMO_MODEL, quantize="4bit", dtype="float64")
    with monkeypatch.context() as patch:
        patch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
        with pytest.raises(ConfigError, match="bitsandbytes has no kernels for cpu: choose a --device of cuda"):
            load_model(DEMO_MODEL, quantize="4bit")
    monkeypatch.setattr(quantized, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    with pytest.raises(ModelError, match=r"need bitsandbytes: pip install 'prism-select\[quantize\]'"):
        load_model(DEMO_MODEL, quantize="8bit")
