"""What experiments share: one at a time, and named by all that it depends on."""

import threading
from pathlib import Path
from typing import Any

import pytest

from prism.errors import RunError
from prism.experiments.experiment import Experiment
from prism.experiments.grid import Cell, Grid
from prism.experiments.work import in_turn
from tests.experiments.conftest import Place
from tests.run.test_select import Notes


def test_one_after_another(tmp_path: Path) -> None:
    place, order, inside, go = tmp_path / "deep" / "model", list[str](), threading.Event(), threading.Event()
    notes = Notes()

    def first() -> None:
        with in_turn(place, Notes()):
            inside.set()
            go.wait(30)
            order.append("first")

    def second() -> None:
        with in_turn(place, notes):
            order.append("second")

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    assert inside.wait(30)
    two.start()
    two.join(0.5)
    assert two.is_alive() and order == []
    go.set()
    one.join(30)
    two.join(30)
    assert order == ["first", "second"]
    assert notes.notes == [f"waiting for another prism process that is at {place}"]


def test_a_failure_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lost"), in_turn(tmp_path / "model", Notes()):
        raise ValueError("lost")
    notes = Notes()
    with in_turn(tmp_path / "model", notes):
        assert notes.notes == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written"), in_turn(tmp_path / "file" / "model", notes):
        pass


def test_a_shared_training_is_known_by_all_that_it_depends_on(place: Place) -> None:
    def folder(method: str = "random", seed: int = 0, data: Path = place.data, **changes: Any) -> Path:
        fields: dict[str, Any] = {
            "model": str(place.model),
            "pool": str(place.data),
            "target": str(place.target),
            "held_out": str(place.held_out),
            "methods": [method],
            "out": str(place.folder / "cmp"),
            "shared": str(place.folder / "shared"),
            **changes,
        }
        grid = Grid(Experiment.model_validate(fields), place.folder / "cmp")
        return grid.model_folder(Cell(grid.experiment.methods[0], "30%", seed), [data])

    usual = folder()
    assert usual.parent == place.folder / "shared" / "models"
    assert folder(target=str(place.held_out), out="elsewhere", budgets=["10%"]) == usual
    assert folder("longest") == folder("full") == usual  # whatever chose the rows
    others = [folder(seed=1), folder(data=place.retain), folder(train={"epochs": 3}), folder(select={"max_length": 99})]
    assert len({usual, *others}) == 5
    assert folder("prism").is_relative_to(place.folder / "cmp" / "cells")  # no other target chooses the same
    assert folder(shared=None).is_relative_to(place.folder / "cmp" / "cells")
