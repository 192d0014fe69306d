"""What a long pass reports while it runs; the command line draws it, a library call may ignore it."""

from typing import Protocol


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
