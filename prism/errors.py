"""The errors that a user can cause and mend."""

from dataclasses import asdict, dataclass


class PrismError(Exception):
    """Something the user can put right: the message says what is wrong, where, and what to do."""


class ConfigError(PrismError):
    """An option is missing, malformed or contradicts another."""


class DataError(PrismError):
    """A data file can't be read, or none of its rows can be used."""


class ModelError(PrismError):
    """A model, adapter or tokenizer can't be loaded or scored."""


class RunError(PrismError):
    """A run folder can't be used for what was asked."""


class TrainingError(PrismError):
    """A training can't start, or came to nothing."""


class RowError(PrismError):
    """One row can't be used; readers turn it into a `BadRow`, or raise it with `on_bad_row="stop"`."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was set aside, as `rejected.jsonl` lists it."""

    file: str
    line: int
    reason: str
    id: str | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


def stopped_at(row: BadRow) -> DataError:
    """The error that a bad row is where `on_bad_row` is "stop"."""
    return DataError(f"bad row in {row} (--on-bad-row skip sets such rows aside)")


def first_line(error: BaseException) -> str:
    """What a library's error says, short enough to stand in one of ours."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
