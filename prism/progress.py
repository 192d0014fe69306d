"""What a long pass reports while it runs; the command line draws it, a library call may ignore it."""

import logging
from typing import Protocol

log = logging.getLogger("prism")


class Progress(Protocol):
    """Told of phases and of tokens done in them."""

    def start(self, phase: str, rows: int) -> None: ...

    def advance(self, rows: int, tokens: int) -> None: ...

    def note(self, message: str) -> None: ...


class Silent:
    """Reports nothing."""

    def start(self, phase: str, rows: int) -> None: ...

    def advance(self, rows: int, tokens: int) -> None: ...

    def note(self, message: str) -> None: ...


class Recorded:
    """Progress whose phases and notes also go to the run's log."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.advance = progress.advance

    def start(self, phase: str, rows: int) -> None:
        log.info("%s: %d rows", phase, rows)
        self._progress.start(phase, rows)

    def note(self, message: str) -> None:
        log.info("%s", message)
        self._progress.note(message)


def recorded(progress: Progress | None) -> Progress:
    """`progress` as recorded, once: steps of an experiment are handed what the experiment records already."""
    return progress if isinstance(progress, Recorded) else Recorded(progress or Silent())
