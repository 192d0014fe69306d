"""Which engine is taken, and why."""

from typing import Any

import pytest
import torch

from prism.errors import ConfigError
from prism.model import Model
from prism.scoring.backward import LoopEngine, StreamingEngine
from prism.scoring.choose import FORWARD_ROWS, Chosen, EngineName, choose_engine
from prism.scoring.forward import CentralDifference, ForwardMode
from tests.scoring.exactness import check_exact, encoded, random_direction
from tests.scoring.forward import curved, llama, target_direction
from tests.scoring.test_adapters import lora
from tests.scoring.test_families import FAMILIES, build
from tests.small_memory import room_for


def choose(
    model: Model, engine: EngineName = "auto", rows: int = FORWARD_ROWS, directions: int = 1, norms: bool = False
) -> Chosen:
    v = target_direction(model)
    return choose_engine(model, [v] * directions, norms=norms, probes=encoded(model), engine=engine, rows=rows)


def test_auto_takes_forward_where_it_pays_and_is_near(tokenizer: Any) -> None:
    chosen = choose(llama(tokenizer))
    assert isinstance(chosen.engine, CentralDifference) and isinstance(chosen.reference, StreamingEngine)
    assert chosen.why.startswith("forward (central difference) engine; it differs by ")
    assert chosen.why.endswith(" of the scores from the backward engine on 5 check samples")


@pytest.mark.parametrize(
    "changes", [{"rows": FORWARD_ROWS - 1}, {"directions": 2}, {"norms": True}, {"engine": "backward"}]
)
def test_auto_takes_backward_for_small_pools_and_for_more_than_one_product(
    changes: dict[str, Any], tokenizer: Any
) -> None:
    chosen = choose(llama(tokenizer), **changes)
    assert isinstance(chosen.engine, StreamingEngine) and chosen.reference is None
    assert "forward" not in chosen.why


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_auto_takes_backward_beyond_float32(dtype: torch.dtype, tokenizer: Any) -> None:
    model = llama(tokenizer, dtype=dtype)
    assert isinstance(choose(model).engine, StreamingEngine)
    expected = CentralDifference if dtype == torch.float64 else ForwardMode
    assert isinstance(choose(model, "forward").engine, expected)


@pytest.mark.parametrize("kind", ["dora", "mixtral"])
def test_where_a_central_difference_is_wrong_by_construction(kind: str, tokenizer: Any) -> None:
    size = len(tokenizer)
    model = (
        Model(lora(llama(tokenizer).network, use_dora=True), tokenizer, "lora")
        if kind == "dora"
        else Model(build(FAMILIES["mixtral"], size).float(), tokenizer, "linear")
    )
    auto = choose(model)
    assert isinstance(auto.engine, StreamingEngine)
    assert ("DoRA" if kind == "dora" else "which experts") in auto.why.partition("not the forward engine, since ")[2]
    assert isinstance(choose(model, "forward").engine, ForwardMode)


def test_curvature_ends_in_the_backward_engine(tokenizer: Any) -> None:
    chosen = choose(curved(tokenizer))
    assert isinstance(chosen.engine, StreamingEngine) and chosen.reference is None
    why = chosen.why.partition("; not the forward engine, since ")[2]
    assert why.startswith("its central difference is off by ")


def test_forward_is_not_forced_on_a_model_that_has_none(tokenizer: Any) -> None:
    chosen = choose(Model(build(FAMILIES["bloom"], len(tokenizer)).bfloat16(), tokenizer, "linear"), "forward")
    assert isinstance(chosen.engine, StreamingEngine)
    assert "the model has no forward-mode derivative" in chosen.why


@pytest.mark.parametrize("changes", [{"norms": True}, {"directions": 2}])
def test_forward_gives_one_number_a_sample(changes: dict[str, Any], tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="gives no gradient norms, and one direction a pass: use --engine backward"):
        choose(llama(tokenizer), "forward", **changes)


def test_where_backward_loops_forward_helps(tokenizer: Any) -> None:
    """Attention sinks can't be streamed, and a mixture gets no central difference."""
    chosen = choose(Model(build(FAMILIES["gpt-oss"], len(tokenizer)).float(), tokenizer, "all"))
    assert isinstance(chosen.engine, ForwardMode) and isinstance(chosen.reference, LoopEngine)


@pytest.mark.parametrize("room", [2.0, 1.0, 0.99])
def test_a_lack_of_memory_makes_the_check_smaller(room: float, tokenizer: Any) -> None:
    """Beside the longest sample, beside a shorter one, without the longest: it proves itself all the same."""
    model = llama(tokenizer, dtype=torch.float64)
    samples = encoded(model)
    with room_for(model.network, int(room * max(len(s) for s in samples))):
        chosen = choose_engine(model, [random_direction(model)], norms=False, probes=samples)
        assert chosen.why.startswith("backward engine; largest error on a check sample")
    assert check_exact(model, samples).startswith("backward")


def test_no_memory_for_any_check(tokenizer: Any) -> None:
    model = llama(tokenizer)
    with room_for(model.network, 7):
        chosen = choose_engine(model, [random_direction(model)], norms=False, probes=encoded(model))
    assert isinstance(chosen.engine, LoopEngine)
    assert chosen.why.endswith("the memory does not suffice for the gradient of any check sample")
