"""Chance and length, through the streaming pass."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from prism.data import Encoder, load_pool, load_target
from prism.errors import ConfigError
from prism.methods.baselines import BASELINES, score_baseline
from prism.methods.context import Context, Options


def no_model(*_: Any) -> Any:
    raise AssertionError("the model's weights were asked for")


@pytest.fixture
def context(tokenizer: Any, pool_rows: Any, pair_rows: Any) -> Any:
    encoder = Encoder(tokenizer, max_length=256)

    def make(rows: Any = pool_rows, **changes: Any) -> Context:
        given = {"words": lambda: encoder, "loaded": no_model, "other": no_model, **changes}
        return Context(load_pool(rows), load_target(pair_rows), **given)

    return make


def many(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Say {i}.", "completion": f"{i} it is, " * (i % 5 + 1)} for i in range(count)]


def test_random_is_a_function_of_seed_and_id_alone(context: Any) -> None:
    rows = many(600)

    def scores(order: Any, **changes: Any) -> dict[str, float]:
        table = score_baseline(BASELINES["random"], context([rows[i] for i in order], **changes), shard_rows=100)
        return dict(zip(table.column("id"), table.column("score"), strict=True))

    first = scores(range(600))
    assert scores(range(599, -1, -1)) == first
    other = scores(range(600), seed=1)
    assert other != first
    both = np.array([[first[name], other[name]] for name in first])
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.15


def test_random_is_uniform(context: Any) -> None:
    found = score_baseline(BASELINES["random"], context(many(2000))).column("score")
    counts = np.bincount((found * 10).astype(int), minlength=10)
    assert found.min() > 0 and found.max() < 1
    assert np.square(counts - 200).sum() / 200 < 33.7  # chi-squared of 9 degrees of freedom, p = 1e-4


def test_copies_get_chances_of_their_own(context: Any) -> None:
    found = score_baseline(BASELINES["random"], context([many(1)[0]] * 3)).column("score")
    assert len(set(found.tolist())) == 3


def test_longest_counts_response_tokens(context: Any, tokenizer: Any, pool_rows: Any) -> None:
    table = score_baseline(BASELINES["longest"], context())
    encoder = Encoder(tokenizer, max_length=256)
    assert table.column("score").tolist() == [encoder.row(row).response_tokens for row in load_pool(pool_rows)]
    assert np.array_equal(table.column("score"), table.column("response_tokens"))
    assert np.isnan(table.column("loss")).all() and Counter(table.column("flag")) == {"ok": len(pool_rows)}


def test_a_row_that_cannot_be_encoded_is_set_aside(context: Any, tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, max_length=256, vocabulary=10)
    with pytest.raises(Exception, match="all 3 rows of the pool were rejected"):
        score_baseline(BASELINES["longest"], context(many(3), words=lambda: encoder))


def test_aggregate_needs_scores_against_single_targets(context: Any) -> None:
    with pytest.raises(ConfigError, match="nothing to aggregate"):
        score_baseline(BASELINES["random"], context(), Options(aggregate="max"))
