"""The row types that everything downstream works on, and their ids."""

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate sample.

    `messages` ends with the assistant turn that carries the loss. `strings` says that the row came as a prompt string
    and a completion string, which plain text joins as they are. `index` is its place among all rows of the pool, bad
    ones counted; `record` is the user's row, untouched.
    """

    id: str
    messages: Messages
    strings: bool
    source: str
    content: str
    file: str
    line: int
    index: int
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """One target item q = (prompt x, wanted response y+, unwanted response y-).

    `rejected` is empty where the item has no y-, as methods that need none allow. `subtask` is its own field, else the
    stem of its file; `rejected_from` says where y- comes from, "" where nobody said.
    """

    id: str
    chosen: Messages
    rejected: Messages
    strings: bool
    content: str
    file: str
    line: int
    record: Mapping[str, Any]
    subtask: str = ""
    rejected_from: str = ""


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

    A row's own id counts; without one, its content hash. Later rows with the same content get `#2`, `#3`, …. Names are
    told apart by 64 bits of a hash, as contents are, so that a row takes some 30 bytes.
    """

    def __init__(self) -> None:
        self._contents = Numbers()
        self._copies = Numbers()

    def assign(self, own: str | None, content: str) -> str:
        """The id for a row; raises ValueError where an own id stands for two different contents."""
        base = content if own is None else own
        key, says = _number(base), int(content, 16)
        before = self._contents.get(key)
        if before is None:
            self._contents.set(key, says)
            return base
        if before not in (says, GIVEN):
            raise ValueError(f"id {base!r} was already used for a row with other contents")
        copies, taken = self._copies.get(key) or 1, key
        while self._contents.get(taken) is not None:
            copies += 1
            name = f"{base}#{copies}"
            taken = _number(name)
        self._copies.set(key, copies)
        self._contents.set(taken, GIVEN)
        return name


GIVEN = 0  # stands for the content of a copy: its name may turn out to be somebody's own, which is no clash


class Numbers:
    """A map of 64-bit numbers to 64-bit numbers, in two arrays: open addressing with linear probing."""

    def __init__(self) -> None:
        self._keys, self._values = _zeros(64), _zeros(64)
        self._used = 0

    def get(self, key: int) -> int | None:
        slot = self._slot(key or 1)
        return self._values[slot] if self._keys[slot] else None

    def set(self, key: int, value: int) -> None:
        key = key or 1  # 0 marks a free slot
        slot = self._slot(key)
        if not self._keys[slot]:
            if 4 * self._used > 3 * len(self._keys):
                self._grow()
                slot = self._slot(key)
            self._used += 1
        self._keys[slot], self._values[slot] = key, value

    def _slot(self, key: int) -> int:
        keys, last = self._keys, len(self._keys) - 1
        slot = key & last
        while keys[slot] and keys[slot] != key:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._keys, self._values = _zeros(2 * len(keys)), _zeros(2 * len(keys))
        for key, value in zip(keys, values, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot], self._values[slot] = key, value


def _zeros(count: int) -> "array[int]":
    return array("Q", bytes(8 * count))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
