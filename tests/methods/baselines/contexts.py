"""Contexts of baselines over small real text."""

from typing import Any

from prism.data import Encoder, load_pool, load_target
from prism.methods.context import Context
from prism.model import Model
from tests.conftest import TEXTS

ROWS = [
    {"id": f"{turn}-{i}", "prompt": f"{question}{' Please.' * turn}", "completion": f"{answer} {TEXTS[turn][1]}"}
    for turn in range(3)
    for i, (question, answer) in enumerate(TEXTS)
]
PAIRS = [
    {"id": f"q{i}", "prompt": question, "chosen": answer, "rejected": "No idea."}
    for i, (question, answer) in enumerate([TEXTS[1], TEXTS[5], TEXTS[2], TEXTS[4]])
]


def no_model(*_: Any) -> Any:
    raise AssertionError("a model's weights were asked for")


def without_model(tokenizer: Any, rows: Any = ROWS, pairs: Any = PAIRS, **changes: Any) -> Context:
    encoder = Encoder(tokenizer, max_length=256)
    given = {"words": lambda: encoder, "loaded": no_model, "other": no_model, **changes}
    return Context(load_pool(rows), load_target(pairs), **given)


def with_model(network: Any, tokenizer: Any, rows: Any = ROWS, pairs: Any = PAIRS, **changes: Any) -> Context:
    model = Model(network, tokenizer)
    encoder = model.encoder()
    given = {"words": lambda: encoder, "loaded": lambda: (model, encoder), "other": no_model, **changes}
    return Context(load_pool(rows), load_target(pairs), **given)
