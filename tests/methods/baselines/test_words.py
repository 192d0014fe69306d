"""BM25 and DSIR against formulas written out, on text in several scripts."""

import math
import re
from hashlib import sha256
from typing import Any

import bm25s
import numpy as np
import pytest

from prism.data import load_pool
from prism.methods.baselines import BASELINES, bm25, score_baseline
from prism.methods.baselines.bm25 import split
from prism.methods.baselines.dsir import gumbel
from prism.methods.baselines.texts import row_text
from prism.methods.context import Options
from tests.methods.baselines.contexts import PAIRS, ROWS, without_model

MANY = [
    *ROWS,
    {"id": "ar", "prompt": "ما هو لون السماء؟", "completion": "السماء زرقاء بسبب تشتت الضوء."},
    {"id": "none", "prompt": "?", "completion": "…"},  # no word at all
    {"id": "many", "prompt": "Sea, sea, SEA!", "completion": "sea " * 30},
]
QUERIES = [*PAIRS, {"id": "ar", "prompt": "السماء", "chosen": "السماء زرقاء", "rejected": "no"}]


def words(text: str) -> list[str]:
    found = re.findall(r"\b\w\w+\b", text.lower())
    return [w for w in found if w not in bm25s.stopwords.STOPWORDS_EN]


def by_hand(texts: list[str], query: str) -> list[float]:
    documents = [words(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for word in words(query):
            having = sum(word in other for other in documents)
            if having:
                idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
                often = document.count(word)
                total += idf * often / (often + 1.5 * (1 - 0.75 + 0.75 * len(document) / mean))
        scores.append(total)
    return scores


@pytest.fixture
def texts() -> list[str]:
    return [row_text(row) for row in load_pool(MANY)]


@pytest.mark.parametrize("cells", [1, 1 << 23])
def test_bm25_is_its_formula_and_bm25s(
    tokenizer: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(bm25, "CELLS", cells)
    context = without_model(tokenizer, MANY, QUERIES)
    asked = [f"{pair['prompt']}\n\n{pair['chosen']}" for pair in QUERIES]
    expected = np.array([by_hand(texts, query) for query in asked]).T
    index = bm25s.BM25()
    index.index([words(text) for text in texts], show_progress=False)
    peer = np.array([index.get_scores(words(query)) for query in asked]).T
    assert (expected.max(0) > 0.5).all()
    for aggregate, reduce in (("mean", np.mean), ("max", np.max)):
        found = score_baseline(BASELINES["bm25"], context, Options(aggregate=aggregate), shard_rows=7).column("score")
        np.testing.assert_allclose(found, reduce(expected, 1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found, reduce(peer, 1), rtol=1e-5, atol=1e-6)


def test_bm25_takes_the_mean_unless_told(tokenizer: Any) -> None:
    context = without_model(tokenizer, MANY, QUERIES)
    own, mean = (score_baseline(BASELINES["bm25"], context, o).column("score") for o in (None, Options("mean")))
    assert np.array_equal(own, mean)


def test_words_are_those_of_bm25s(texts: list[str]) -> None:
    assert split(texts) == [words(text) for text in texts]


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_dsir_is_the_log_ratio_of_hashed_ngrams(tokenizer: Any, texts: list[str], longest: int) -> None:
    def grams(text: str) -> list[str]:
        found = re.findall(r"\w+|[^\w\s]+", text.lower())
        return [" ".join(found[i : i + n]) for n in range(1, longest + 1) for i in range(len(found) - n + 1)]

    def shares(many: list[str]) -> dict[int, float]:
        hits = [int(sha256(gram.encode()).hexdigest(), 16) % 10_000 for text in many for gram in grams(text)]
        return {bucket: hits.count(bucket) / len(hits) for bucket in set(hits)}

    target, pool = shares([f"{pair['prompt']}\n\n{pair['chosen']}" for pair in QUERIES]), shares(texts)
    expected = []
    for text in texts:
        buckets = [int(sha256(gram.encode()).hexdigest(), 16) % 10_000 for gram in grams(text)]
        expected.append(sum(math.log(target.get(b, 0) + 1e-8) - math.log(pool[b] + 1e-8) for b in buckets))
    context = without_model(tokenizer, MANY, QUERIES, seed=5)
    found = score_baseline(BASELINES["dsir"], context, Options(ngrams=longest), shard_rows=7).column("score")
    chance = score_baseline(BASELINES["random"], context).column("score")
    np.testing.assert_allclose(found + np.log(-np.log(chance)), expected, rtol=1e-10, atol=1e-9)


def test_noise_makes_the_highest_a_draw_in_proportion_to_the_weights() -> None:
    rows = list(load_pool(ROWS[:3]))
    weights = np.array([6.0, 3.0, 1.0])
    first = np.array([np.argmax(np.log(weights) + gumbel(seed, rows)) for seed in range(6000)])
    shares = np.bincount(first, minlength=3) / 6000
    assert np.abs(shares - weights / 10).max() < 0.025  # four standard errors
