"""Networks that compute in half precision, whatever their chosen parameters are kept in."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from prism.data import collate
from prism.model import Model
from prism.scoring.backward import StreamingEngine
from prism.scoring.check import check_model
from prism.scoring.choose import FORWARD_ROWS, EngineName, choose_engine
from prism.scoring.forward import ForwardMode
from tests.conftest import tiny_llama
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
