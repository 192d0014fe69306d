"""The samples of a fit: how many, from where, at which labels."""

from typing import Any

import numpy as np
import pytest
import torch

from prism.curvature.sample import FitSamples, choose_rows, fit_samples
from prism.data import load_pool
from prism.model import Model
from prism.progress import Silent
from tests.conftest import Rows, tiny_llama
from tests.curvature import dense


@pytest.mark.parametrize(("rows", "count"), [(60, 16), (61, 40), (100, 7), (5, 9)])
def test_as_many_rows_as_asked_for_one_out_of_each_part(rows: int, count: int) -> None:
    pool = load_pool([{"prompt": f"say {i}", "completion": str(i)} for i in range(rows)])
    found: list[Any] = list(choose_rows(pool, count, 3))
    places = [row.index for row in found]
    assert len(set(places)) == min(rows, count) and places == sorted(places)
    if count < rows:
        assert [place * count // rows for place in places] == pytest.approx(range(count), abs=1)
        assert places != [row.index for row in choose_rows(pool, count, 4)]  # type: ignore[attr-defined]


def drawn(model: Model, rows: Rows, seed: int, batch_tokens: int) -> FitSamples:
    encoder = model.encoder()
    options = {"count": 99, "labels": "model", "seed": seed, "batch_tokens": batch_tokens, "progress": Silent()}
    return fit_samples(model, load_pool(rows), encoder, **options)  # type: ignore[arg-type]


def test_labels_follow_the_model_and_no_batching(tokenizer: Any, pool_rows: Rows) -> None:
    model = Model(tiny_llama(len(tokenizer), initializer_range=0.3).double(), tokenizer)
    alone, together = drawn(model, pool_rows, 0, 1), drawn(model, pool_rows, 0, 4000)
    for a, b in zip(alone.labels, together.labels, strict=True):
        assert torch.equal(a, b)
    p = torch.softmax(dense.logits(model.network, alone.encoded[0]), -1)[0].detach()
    top = int(p.argmax())
    share = np.mean([int(drawn(model, pool_rows[:1], seed, 4000).labels[0][0]) == top for seed in range(300)])
    assert share == pytest.approx(float(p[top]), abs=4 * float((p[top] * (1 - p[top]) / 300).sqrt()))


def test_rows_without_a_finite_loss_are_left_out(tokenizer: Any, pool_rows: Rows) -> None:
    model = Model(tiny_llama(len(tokenizer)), tokenizer)
    broken = model.encoder().row(next(iter(load_pool(pool_rows[4:5])))).ids[5]
    model.network.model.embed_tokens.weight.data[broken] = torch.nan
    found = drawn(model, pool_rows, 0, 4000)
    assert found.left_out > 0 and len(found.encoded) + found.left_out == len(pool_rows)
    assert not any(broken in sample.ids for sample in found.encoded) and "can't be used" in str(found)
