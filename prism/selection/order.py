"""Put many texts in order without holding them."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np


def in_order(parts: Iterable[tuple[int, bytes]], count: int, folder: Path) -> Iterator[bytes]:
    """`count` parts that come with their places 0 … `count` - 1, each once; they lie in an unnamed file in `folder`
    until all have come."""
    starts, lengths = np.zeros(count, np.int64), np.zeros(count, np.int64)
    with tempfile.TemporaryFile(dir=folder) as file:
        end = 0
        for place, part in parts:
            file.write(part)
            starts[place], lengths[place] = end, len(part)
            end += len(part)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            file.seek(start)
            yield file.read(length)
