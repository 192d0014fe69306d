"""BM25: how many of the targets' words a row has, rare words counting more."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import bm25s
import numpy as np

from prism.data import Row
from prism.methods.baselines.rowwise import Floats, Rowwise
from prism.methods.baselines.texts import row_text, target_text, texts_of
from prism.methods.context import Context, Options
from prism.scoring.feed import RowScorer

K1, B = 1.5, 0.75  # bm25s' own
CELLS = 1 << 23  # of words by rows, held at once


def by_words(context: Context, _: Options) -> RowScorer:
    """BM25 of each row's text for each target's, prompt and chosen answer [rows, targets].

    Words, stop words and the formula (Lucene's variant) are those of bm25s. Its index would keep every row's words in
    memory; here the pool is read once for its statistics, of the targets' words alone, and then scored as it streams.
    """
    pairs = context.pairs[0]
    queries = [Counter(words) for words in split(target_text(pair) for pair in pairs)]
    index = Statistics.of(queries)
    for texts in texts_of(context.pool, len(context.pool), "count", context.progress):
        index.add(split(texts))
    return Rowwise("bm25", lambda rows, _: _scores(index, queries, rows))


def split(texts: Iterable[str]) -> list[list[str]]:
    """Lower-case words of two letters and more without English stop words, text by text."""
    words: list[list[str]] = bm25s.tokenize(list(texts), return_ids=False, show_progress=False)
    return words


@dataclass
class Statistics:
    """What BM25 needs to know of a pool: rows, their words, and how many rows have each word of the queries [words]."""

    numbers: dict[str, int]
    having: Floats
    rows: int = 0
    words: int = 0

    @classmethod
    def of(cls, queries: Sequence[Counter[str]]) -> "Statistics":
        """Of no row yet."""
        known = sorted(set().union(*queries))
        return cls({word: number for number, word in enumerate(known)}, np.zeros(len(known)))

    def add(self, texts: Iterable[Sequence[str]]) -> None:
        for words in texts:
            self.rows += 1
            self.words += len(words)
            self.having[[self.numbers[w] for w in self.numbers.keys() & set(words)]] += 1

    def idf(self) -> Floats:
        """log(1 + (N - n + 1/2) / (n + 1/2)) [words]; 0 for a word that no row has."""
        found: Floats = np.log1p((self.rows - self.having + 0.5) / (self.having + 0.5))
        return np.where(self.having > 0, found, 0.0)

    def weights(self, texts: Sequence[Sequence[str]]) -> Floats:
        """idf * f / (f + k1 (1 - b + b |z| / mean |z|)) of each word in each text [words, texts]."""
        idf, mean = self.idf(), self.words / max(self.rows, 1)
        found = np.zeros((len(idf), len(texts)))
        for place, words in enumerate(texts):
            counts = Counter(word for word in words if word in self.numbers)
            numbers = [self.numbers[word] for word in counts]
            often = np.array(list(counts.values()), dtype=np.float64)
            found[numbers, place] = idf[numbers] * often / (often + K1 * (1 - B + B * len(words) / max(mean, 1e-9)))
        return found


def _scores(index: Statistics, queries: Sequence[Counter[str]], rows: Sequence[Row]) -> Floats:
    found = np.zeros((len(rows), len(queries)))
    together = max(1, CELLS // max(len(index.numbers), 1))
    asked = [([index.numbers[word] for word in query], np.array(list(query.values()), float)) for query in queries]
    for start in range(0, len(rows), together):
        weights = index.weights(split(row_text(row) for row in rows[start : start + together]))
        for target, (numbers, counts) in enumerate(asked):
            found[start : start + together, target] = counts @ weights[numbers]
    return found
