"""The dozen lines of the README, and what they promise."""

import json
from pathlib import Path

import numpy as np
import pytest

import prism
from tests.conftest import Rows


def test_the_readme_program(model_folder: Path, tmp_path: Path, pool_rows: Rows, pair_rows: Rows) -> None:
    model = prism.load_model(model_folder)
    pool = prism.load_pool(pool_rows)
    target = prism.load_target(pair_rows)
    scores = prism.score(model, pool, target)
    chosen = prism.select(scores, budget="30%")
    chosen.save(tmp_path / "selected.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "selected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == int(0.3 * len(pool_rows))
    best = int(np.argmax(scores.column("score")))
    assert rows[0]["messages"] == pool_rows[best]["messages"]
    assert rows[0]["prism"]["rank"] == 1
    assert len(scores.to_pandas()) == len(pool_rows)


def test_weights_that_are_uniformly_scaled_change_no_ranking(
    model_folder: Path, pool_rows: Rows, pair_rows: Rows
) -> None:
    """METHOD, consequence (d): repeating every pair leaves the direction, and so the scores, as they are."""
    model = prism.load_model(model_folder)
    once = prism.score(model, prism.load_pool(pool_rows), prism.load_target(pair_rows))
    twice = prism.score(model, prism.load_pool(pool_rows), prism.load_target(pair_rows * 2))
    assert once.column("score") == pytest.approx(twice.column("score"), rel=1e-4, abs=1e-5)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="frobnicate"):
        prism.frobnicate  # noqa: B018
