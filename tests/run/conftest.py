"""A small complete job, as a config."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prism.config import SelectConfig
from tests.conftest import Rows


@pytest.fixture
def config(
    tmp_path: Path, model_folder: Path, pool_rows: Rows, pair_rows: Rows, write_jsonl: Callable[[str, Rows], Path]
) -> SelectConfig:
    pool, target = write_jsonl("pool.jsonl", pool_rows), write_jsonl("pairs.jsonl", pair_rows)
    return SelectConfig(
        model=str(model_folder), pool=[str(pool)], target=[str(target)], budget="50%", out=str(tmp_path / "run")
    )
