"""A small complete job for the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Outcome, prism, refusal
from tests.conftest import Rows


@dataclass(frozen=True)
class Job:
    """A model, a pool and a target on disk; `select` runs them with more options, later ones winning."""

    folder: Path
    model: Path
    pool: Path
    target: Path

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def words(self, *more: str | Path, **options: Any) -> list[str]:
        given = {"model": self.model, "pool": self.pool, "target": self.target, "budget": "50%", "out": self.out}
        named = [w for name, value in {**given, **options}.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        return ["select", *named, *map(str, more)]

    def select(self, *more: str | Path, **options: Any) -> Outcome:
        return prism(*self.words(*more, **options))

    def refused(self, *more: str | Path, **options: Any) -> str:
        return refusal(*self.words(*more, **options))


@pytest.fixture
def job(
    tmp_path: Path, model_folder: Path, pool_rows: Rows, pair_rows: Rows, write_jsonl: Callable[[str, Rows], Path]
) -> Job:
    return Job(tmp_path, model_folder, write_jsonl("pool.jsonl", pool_rows), write_jsonl("pairs.jsonl", pair_rows))
