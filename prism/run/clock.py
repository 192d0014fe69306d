"""Where a run's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("reading", "loading", "target", "scoring", "selection")


class Clock:
    """Seconds by phase; those of `PHASES` that a run skips take none, and others are there only if they ran."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._inner = 0.0  # seconds of the phases inside the one that is on
        self.phases = dict.fromkeys(PHASES, 0.0)

    @property
    def total(self) -> float:
        """Since the clock was made."""
        return time.monotonic() - self._began

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Its seconds, less those of phases inside it."""
        began, before, self._inner = time.monotonic(), self._inner, 0.0
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self.phases[name] = self.phases.get(name, 0.0) + seconds - self._inner
            self._inner = before + seconds
