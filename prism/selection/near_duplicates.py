"""Of rows that say nearly the same, only the best placed: MinHash to find them, exact similarity to judge them."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.data import Pool
from prism.data.words import normal, words_of
from prism.errors import BadRow, ConfigError, DataError

SHINGLE = 3  # words
PERMUTATIONS = 128
SEED = 1
FOUND = 0.99
AHEAD = (1 << 10, 1 << 15)  # candidates whose texts are read in one pass over the pool: first, and at most
Shingles = npt.NDArray[np.uint32]


def shingles(text: str) -> Shingles:
    """Hashes of the runs of three words of a text, each once, sorted; case and compatibility forms don't count.

    A shorter text is one run; one without any word (only emoji, say) is made of its characters.
    """
    words = words_of(text) or [c for c in normal(text) if not c.isspace()]
    runs = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    return np.unique(np.array([zlib.crc32(run.encode("utf-8", "surrogatepass")) for run in runs], dtype=np.uint32))


def similarity(a: Shingles, b: Shingles) -> float:
    """Jaccard's: shingles in both over shingles in either."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def bands(threshold: float) -> tuple[int, int]:
    """(bands, rows of each): as selective as can be while two texts of just that similarity agree in some band with a
    probability 1 - (1 - threshold^rows)^bands of `FOUND` or more."""
    rows = range(PERMUTATIONS // 2, 0, -1)
    return next(
        ((PERMUTATIONS // r, r) for r in rows if 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= FOUND),
        (PERMUTATIONS, 1),
    )


class NearDuplicates:
    """A rule that refuses rows whose similarity with a chosen one is `threshold` or more.

    Similarity is Jaccard's over runs of three words of all turns but the system's. Candidates for it come from banded
    MinHash signatures (Broder 1997; `datasketch`), which miss at most one in a hundred that lie just at the threshold
    and hardly any above it, and are judged exactly.
    Texts are read as candidates come up, some thousands at a time; signatures stay in memory of chosen rows only.

    Args:
        upcoming: the next so many candidates, as far as they are known.

    Raises:
        ConfigError: the threshold is not in (0, 1], or datasketch is not installed.
    """

    def __init__(self, pool: Pool, index: npt.NDArray[np.int64], threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"near_duplicates {threshold} is no similarity above 0, up to 1 (0.8, say)")
        try:
            import datasketch
        except ImportError as error:
            raise ConfigError("near_duplicates needs datasketch: pip install 'prism-select[dedup]'") from error
        self._pool, self._index, self._threshold = pool, index, threshold
        self._similar = datasketch.MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
        self._signer = datasketch.MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int)
        self._ahead: dict[int, Shingles] = {}
        self._kept: dict[int, Shingles] = {}
        self._read = AHEAD[0]
        self._last: tuple[int, Any] | None = None
        self.upcoming: Callable[[int], Iterable[int]] = lambda count: ()
        self.refused = 0

    @property
    def reason(self) -> str:
        return f"similar by {self._threshold:g} or more to a better one"

    def admits(self, place: int, cost: int, spent: int) -> bool:
        if place not in self._ahead:
            self._read_on(place)
        mine = self._ahead[place]
        signature = self._signer.copy()
        signature.update_batch(mine.tolist())
        self._last = place, signature
        others = (self._kept[other] for other in self._similar.query(signature))
        return not any(similarity(mine, other) >= self._threshold for other in others)

    def took(self, place: int, cost: int) -> None:
        assert self._last is not None and self._last[0] == place
        self._kept[place] = self._ahead.pop(place)
        self._similar.insert(place, self._last[1])

    def _read_on(self, place: int) -> None:
        """Shingles of this row and of those that come next."""
        wanted = np.unique(np.array([place, *self.upcoming(self._read)], dtype=np.int64))
        self._read = min(2 * self._read, AHEAD[1])
        order = np.argsort(self._index[wanted], kind="stable")
        rows = self._pool.pick(self._index[wanted[order]].tolist())
        self._ahead = dict(zip(wanted[order].tolist(), self._texts(rows), strict=True))

    @staticmethod
    def _texts(rows: Iterable[Any]) -> Iterator[Shingles]:
        for row in rows:
            if isinstance(row, BadRow):
                raise DataError(f"{row.file} changed since it was scored: a chosen row is bad now: {row}")
            turns = (m["content"] for m in row.messages if m["role"] not in ("system", "developer"))
            yield shingles("\n".join(turns))
