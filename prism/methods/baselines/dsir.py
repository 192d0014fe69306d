"""DSIR: importance resampling on hashed n-grams (Xie et al., arXiv 2302.03169).

The same words, buckets and smoothing as the authors' package `data-selection` (which holds no seed, and reads and
writes files of its own), so that log weights agree to rounding.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prism.data import Row
from prism.methods.baselines.rowwise import Floats, Rowwise
from prism.methods.baselines.simple import uniform
from prism.methods.baselines.texts import row_text, target_text, texts_of
from prism.methods.context import Context, Options
from prism.scoring.feed import RowScorer

BUCKETS = 10_000
SMOOTHING = 1e-8
WORDS = re.compile(r"\w+|[^\w\s]+")  # nltk's WordPunctTokenizer


def by_importance(context: Context, options: Options) -> RowScorer:
    """log p_target(z) - log p_pool(z) + Gumbel noise: the m highest are m draws without replacement, each in proportion
    to its importance weight. The noise is a function of the seed and the row's id."""
    pairs = context.pairs[0]
    target = counted([target_text(pair) for pair in pairs], options.ngrams)
    pool = np.zeros(BUCKETS)
    for texts in texts_of(context.pool, len(context.pool), "count", context.progress):
        pool += counted(texts, options.ngrams)
    ratio = log_ratio(target, pool)

    def measure(rows: Sequence[Row], _: object) -> Floats:
        weights = [ratio[buckets_of(row_text(row), options.ngrams)].sum() for row in rows]
        return np.array(weights)[:, None] + gumbel(context.seed, rows)[:, None]

    return Rowwise("dsir", measure)


def log_ratio(target: Floats, pool: Floats) -> Floats:
    """log(p_target + 1e-8) - log(p_pool + 1e-8) of each bucket, from counts [buckets]."""
    found: Floats = np.log(target / target.sum() + SMOOTHING) - np.log(pool / pool.sum() + SMOOTHING)
    return found


def gumbel(seed: int, rows: Sequence[Row]) -> Floats:
    """Standard Gumbel noise [rows]."""
    found: Floats = -np.log(-np.log(uniform(seed, rows)))
    return found


def counted(texts: Iterable[str], longest: int) -> Floats:
    """How often each bucket is hit [buckets]."""
    total = np.zeros(BUCKETS)
    for text in texts:
        total += np.bincount(buckets_of(text, longest), minlength=BUCKETS)
    return total


def buckets_of(text: str, longest: int) -> npt.NDArray[np.int64]:
    """The bucket of every n-gram of a text, up to n = `longest`."""
    words = WORDS.findall(text.lower())
    grams = list(words)
    for n in range(2, longest + 1):
        grams += map(" ".join, zip(*(words[i:] for i in range(n)), strict=False))
    return np.array([_bucket(gram) for gram in grams], dtype=np.int64)


@lru_cache(1 << 17)
def _bucket(gram: str) -> int:
    return int.from_bytes(hashlib.sha256(gram.encode()).digest()) % BUCKETS
