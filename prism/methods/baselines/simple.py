"""The controls that any method must beat: chance, and length."""

import hashlib
from collections.abc import Sequence

import numpy as np

from prism.data import Encoded, Row
from prism.methods.baselines.rowwise import Floats, Rowwise
from prism.methods.context import Context, Options
from prism.scoring.feed import RowScorer


def by_chance(context: Context, _: Options) -> RowScorer:
    """Uniform in (0, 1), a function of the seed and the row's id: the pool's order changes nothing."""
    return Rowwise("random", lambda rows, _: uniform(context.seed, rows)[:, None])


def by_length(_: Context, __: Options) -> RowScorer:
    """Response tokens, within the longest length that is allowed."""
    return Rowwise("longest", _response_tokens)


def uniform(seed: int, rows: Sequence[Row]) -> Floats:
    """A number in (0, 1) for each row [rows], from 53 bits of a hash of seed and id."""
    key = f"prism {seed}".encode()
    digests = (hashlib.blake2b(row.id.encode(), digest_size=8, key=key).digest() for row in rows)
    bits = np.array([int.from_bytes(digest, "little") >> 11 for digest in digests], dtype=np.float64)
    return (bits + 0.5) / (1 << 53)


def _response_tokens(_: Sequence[Row], samples: Sequence[Encoded]) -> Floats:
    return np.array([s.response_tokens for s in samples], dtype=np.float64)[:, None]
