"""What pairs are made of, and the pairs as they come."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from prism.data.forms import Columns
from prism.data.rows import Ids, Messages, content_hash
from prism.data.sources import open_sources
from prism.errors import BadRow, RowError, stopped_at

T = TypeVar("T")
SUBTASK = ("subtask", "subject", "category", "task")


@dataclass(frozen=True, slots=True)
class Item:
    """One record of the user's, and where it lies."""

    record: Mapping[str, Any]
    file: str
    line: int
    columns: Columns

    def get(self, field: str) -> Any:
        return self.columns.get(self.record, field)

    @property
    def own_id(self) -> str | None:
        value = self.get("id")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        usable = isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip().isprintable()
        return str(value).strip() or None if usable else None

    @property
    def subtask(self) -> str:
        """What it says of its subject; "" where it says nothing."""
        found = (self.get(field) for field in SUBTASK)
        return next((v.strip() for v in found if isinstance(v, str) and v.strip() and v.isprintable()), "")

    def bad(self, reason: str) -> BadRow:
        return BadRow(self.file, self.line, reason, self.own_id)


@dataclass(frozen=True, slots=True)
class Draft:
    """A pair on its way: y+ and y- as text, after the turns of the prompt. `strings`: the prompt came as one string."""

    item: Item
    prompt: Messages
    chosen: str
    rejected: str
    rejected_from: str
    strings: bool = False
    suffix: str = ""  # tells pairs of one item apart

    @property
    def content(self) -> str:
        """Sixteen hex digits that identify what the pair says."""
        return content_hash(*(self.messages(side) for side in (self.chosen, self.rejected)))

    def messages(self, answer: str) -> Messages:
        return (*self.prompt, {"role": "assistant", "content": answer})

    def as_json(self, name: str) -> dict[str, Any]:
        """The row as `prism select --target` reads it."""
        plain = self.strings and len(self.prompt) == 1
        sides = {"chosen": self.chosen, "rejected": self.rejected}
        row: dict[str, Any] = {"id": name, "prompt": self.prompt[0]["content"] if plain else list(self.prompt)}
        row |= sides if plain else {k: [{"role": "assistant", "content": text}] for k, text in sides.items()}
        subtask = {"subtask": self.item.subtask} if self.item.subtask else {}
        return {**row, **subtask, "rejected_from": self.rejected_from}


class Reading:
    """The records of some places, one by one; what can't be used is set aside."""

    def __init__(self, places: Sequence[str], columns: Mapping[str, str], on_bad_row: str = "skip") -> None:
        self._sources = open_sources(list(places))
        self._columns = Columns(columns)
        self._stop = on_bad_row == "stop"
        self.rejected: list[BadRow] = []
        self.read = 0

    def each(self, make: Callable[[Item], T]) -> Iterator[T]:
        """What `make` makes of every item; one for which it raises RowError is set aside."""
        for source in self._sources:
            for found in source.read():
                assert found is not None
                line, record = found
                self.read += 1
                if isinstance(record, RowError):
                    self.drop(BadRow(source.name, line, str(record)))
                    continue
                item = Item(record, source.name, line, self._columns)
                try:
                    made = make(item)
                except RowError as error:
                    self.drop(item.bad(str(error)))
                    continue
                yield made

    def drop(self, row: BadRow) -> None:
        """Raises DataError where the first bad row is the end."""
        self.rejected.append(row)
        if self._stop:
            raise stopped_at(row)


class Names:
    """A unique id for every pair: the item's own, or a hash of what the pair says."""

    def __init__(self) -> None:
        self._ids = Ids()

    def of(self, draft: Draft) -> str:
        own = draft.item.own_id
        base = draft.content if own is None else own + draft.suffix
        try:
            return self._ids.assign(base, draft.content)
        except ValueError:  # the id is another pair's already
            return self._ids.assign(f"{base}-{draft.content}", draft.content)
