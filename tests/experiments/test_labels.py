"""Labels of odd kinds, and what is counted of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism.errors import ConfigError, DataError
from prism.experiments.labels import against_labels, read_labels, threshold_from
from prism.scoring import ScoreTable
from tests.selection.tables import make_scores


def scored(labels: list[Any], scores: list[float]) -> ScoreTable:
    rows = [
        {"id": f"r{n}", "prompt": "Say it", "completion": f"It, {n}.", **({} if label == "-" else {"bad": label})}
        for n, label in enumerate(labels)
    ]
    return make_scores(rows, scores)


def test_words_for_yes_and_no() -> None:
    table = scored([True, 0, "YES", "benign", None, "", "-", 1.0, float("nan")], [float(n) for n in range(9)])
    labels = read_labels(table.pool, table, "bad")
    assert labels.known.tolist() == [True, True, True, True, False, False, False, True, False]
    assert labels.harmful[labels.known].tolist() == [True, False, True, False, True]


def test_a_word_that_says_neither() -> None:
    table = scored([True, "maybe"], [1.0, 2.0])
    with pytest.raises(DataError, match=r"line 2: the label bad is 'maybe', which says neither harmful"):
        read_labels(table.pool, table, "bad")


def test_no_such_column() -> None:
    table = scored([True, False], [1.0, 2.0])
    with pytest.raises(
        ConfigError, match=r"no row has a column 'harmful'; the first row has id, prompt, completion, bad"
    ):
        read_labels(table.pool, table, "harmful")


def test_counts_by_hand() -> None:
    table = scored([True, False, True, False, None, True], [6.0, 5.0, 4.0, 3.0, 2.0, float("nan")])
    labels = read_labels(table.pool, table, "bad")
    found = against_labels(table, np.array([0, 1, 4]), labels, seed=0)
    assert found["rows"] == {"harmful": 3, "benign": 2, "unlabelled": 1, "unscored": 1}
    assert found["auroc"].value == pytest.approx(0.75)  # of 2 x 2 pairs one is out of order
    assert (found["precision"], found["recall"]) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    assert found["dropped"] == {"harmful": 1, "benign": 1, "unlabelled": 1}
    assert found["benign_lost"]["rows"] == 1
    assert found["benign_lost"]["share_of_benign"] == pytest.approx(0.5)
    assert found["harmful_left"] == 2


def test_against_the_benign_rows_of_each_source() -> None:
    rows = [
        {"id": f"r{n}", "prompt": "Say it", "completion": f"It, {n}.", "dataset": source, "bad": bad}
        for n, (source, bad) in enumerate([("a", True), ("a", False), ("b", False), ("b", True), ("a", False)])
    ]
    table = make_scores(rows, [5.0, 4.0, 1.0, 3.0, 2.0])
    found = against_labels(table, np.array([0]), read_labels(table.pool, table, "bad"), seed=0)
    assert found["against_sources"] == [
        {"source": "a", "benign": 2, "auroc": pytest.approx(3 / 4)},  # r1 lies above r3
        {"source": "b", "benign": 1, "auroc": pytest.approx(1.0)},
    ]


def test_one_kind_alone() -> None:
    table = scored([True, True, None], [1.0, 2.0, 3.0])
    labels = read_labels(table.pool, table, "bad")
    assert against_labels(table, np.array([0]), labels, seed=0)["auroc"] is None
    assert against_labels(table, np.array([0]), labels, seed=0)["against_sources"] == []
    with pytest.raises(DataError, match="2 harmful and 0 benign"):
        threshold_from(table, labels)
    upside_down = scored([True, True, False], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="the harmful ones don't score higher"):
        threshold_from(upside_down, read_labels(upside_down.pool, upside_down, "bad"))


def test_a_row_that_was_not_scored_has_no_label(tmp_path: Path) -> None:
    table = scored([True, False, True], [3.0, 2.0, 1.0])
    part = ScoreTable(table.table.slice(1), [], table.pool, table.details)
    labels = read_labels(part.pool, part, "bad")
    assert labels.harmful.tolist() == [False, True]
