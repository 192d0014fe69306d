"""The row types that everything downstream works on, and their ids."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate sample.

    `messages` ends with the assistant turn that carries the loss. `strings` says that the row came as a prompt string
    and a completion string, which plain text joins as they are. `record` is the user's row, untouched.
    """

    id: str
    messages: Messages
    strings: bool
    source: str
    content: str
    file: str
    line: int
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """One target item q = (prompt x, wanted response y+, unwanted response y-)."""

    id: str
    chosen: Messages
    rejected: Messages
    strings: bool
    content: str
    file: str
    line: int
    record: Mapping[str, Any]


def content_hash(*conversations: Sequence[Message]) -> str:
    """Sixteen hex digits that identify what a row says, whatever file or form it came in."""
    canonical = json.dumps([[dict(m) for m in c] for c in conversations], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def kind(value: object) -> str:
    """What JSON calls the type of a value, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


class Ids:
    """Hands every row of one data set a unique, stable id.

    A row's own id counts; without one, its content hash. Later rows with the same content get `#2`, `#3`, ….
    """

    def __init__(self) -> None:
        self._content: dict[str, str] = {}
        self._copies: dict[str, int] = {}
        self._copied: set[str] = set()  # names that we gave to copies, which may turn out to be somebody's own

    def assign(self, own: str | None, content: str) -> str:
        """The id for a row; raises ValueError where an own id stands for two different contents."""
        base = content if own is None else own
        if base not in self._content:
            self._content[base] = content
            return base
        if self._content[base] != content and base not in self._copied:
            raise ValueError(f"id {base!r} was already used for a row with other contents")
        name = base
        while name in self._content:
            self._copies[base] = self._copies.get(base, 1) + 1
            name = f"{base}#{self._copies[base]}"
        self._content[name] = content
        self._copied.add(name)
        return name
