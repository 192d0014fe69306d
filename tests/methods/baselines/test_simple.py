"""Chance and length, through the streaming pass."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from prism.data import Encoder, load_pool
from prism.errors import ConfigError, DataError
from prism.methods.baselines import BASELINES, score_baseline
from prism.methods.context import Options
from tests.methods.baselines.contexts import ROWS, without_model


def many(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Say {i}.", "completion": f"{i} it is, " * (i % 5 + 1)} for i in range(count)]


def test_random_is_a_function_of_seed_and_id_alone(tokenizer: Any) -> None:
    rows = many(600)

    def scores(order: Any, **changes: Any) -> dict[str, float]:
        context = without_model(tokenizer, [rows[i] for i in order], **changes)
        table = score_baseline(BASELINES["random"], context, shard_rows=100)
        return dict(zip(table.column("id"), table.column("score"), strict=True))

    first = scores(range(600))
    assert scores(range(599, -1, -1)) == first
    other = scores(range(600), seed=1)
    both = np.array([[first[name], other[name]] for name in first])
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.15


def test_random_is_uniform(tokenizer: Any) -> None:
    found = score_baseline(BASELINES["random"], without_model(tokenizer, many(2000))).column("score")
    counts = np.bincount((found * 10).astype(int), minlength=10)
    assert found.min() > 0 and found.max() < 1
    assert np.square(counts - 200).sum() / 200 < 33.7  # chi-squared of 9 degrees of freedom, p = 1e-4


def test_copies_get_chances_of_their_own(tokenizer: Any) -> None:
    found = score_baseline(BASELINES["random"], without_model(tokenizer, [many(1)[0]] * 3)).column("score")
    assert len(set(found.tolist())) == 3


def test_longest_counts_response_tokens(tokenizer: Any) -> None:
    table = score_baseline(BASELINES["longest"], without_model(tokenizer), shard_rows=8)
    encoder = Encoder(tokenizer, max_length=256)
    assert table.column("score").tolist() == [encoder.row(row).response_tokens for row in load_pool(ROWS)]
    assert np.array_equal(table.column("score"), table.column("response_tokens"))
    assert np.isnan(table.column("loss")).all() and Counter(table.column("flag")) == {"ok": len(ROWS)}


def test_rows_that_cannot_be_encoded_are_set_aside(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, max_length=256, vocabulary=10)
    with pytest.raises(DataError, match="all 3 rows of the pool were rejected"):
        score_baseline(BASELINES["longest"], without_model(tokenizer, many(3), words=lambda: encoder))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("random", Options(aggregate="max"), "random takes no --aggregate"),
        ("bm25", Options(ngrams=3), "bm25 takes no --ngrams"),
        ("rds+", Options(embedder="x"), r"rds\+ takes no --embedder"),
        ("bm25", Options(aggregate="median"), "aggregate 'median' is none of mean, max, round-robin"),
        ("dsir", Options(ngrams=0), "ngrams must be at least 1"),
        ("delta-loss", Options(), "delta-loss needs --reference"),
    ],
)
def test_options_that_do_not_fit_are_refused(tokenizer: Any, name: str, options: Options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_baseline(BASELINES[name], without_model(tokenizer), options)


def test_the_table_says_all_that_a_user_asks() -> None:
    for name, baseline in BASELINES.items():
        assert baseline.name == name
        assert all((baseline.about, baseline.formula, baseline.source, baseline.cost))
    embed = BASELINES["embed"]
    assert embed.loads(Options()) and not embed.loads(Options(embedder="x"))
    assert [name for name, b in BASELINES.items() if not b.needs_model] == ["random", "longest", "bm25", "dsir"]
