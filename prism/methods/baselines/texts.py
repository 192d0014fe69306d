"""What rows and targets say, as plain text."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from prism.data import Pair, Row
from prism.data.rows import Message
from prism.progress import Progress

TOGETHER = 512


def row_text(row: Row) -> str:
    """All turns, up to the last response."""
    return _joined(row.messages)


def target_text(pair: Pair) -> str:
    """The prompt and the chosen answer."""
    return _joined(pair.chosen)


def texts_of(pool: Iterable[Row], rows: int, phase: str, progress: Progress) -> Iterator[list[str]]:
    """The texts of a pool of so many rows, some hundred at a time."""
    progress.start(phase, rows)
    read = iter(pool)
    while found := [row_text(row) for row in islice(read, TOGETHER)]:
        yield found
        progress.advance(len(found), 0)


def _joined(messages: Sequence[Message]) -> str:
    return "\n\n".join(message["content"] for message in messages)
