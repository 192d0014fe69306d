"""A small labelled SFT set, pairs and held-out pairs, on a tiny model, and quick trainings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEXTS, Rows

GLIB = ("No idea.", "Who cares?", "Find out yourself.", "Never mind.", "Ask somebody else.")


@dataclass(frozen=True)
class Place:
    """Files of a small experiment."""

    folder: Path
    model: Path
    data: Path
    target: Path
    held_out: Path
    retain: Path

    @property
    def common(self) -> dict[str, Any]:
        return {"model": str(self.model), "data": [str(self.data)], "target": [str(self.target)], "label_column": "bad"}


def mixture() -> Rows:
    """21 rows, of which 7 are harmful; one has no label and one an empty one."""
    rows: Rows = []
    for turn in range(3):
        for number, (question, answer) in enumerate(TEXTS):
            bad = (turn + number) % 3 == 0
            said = GLIB[(turn + number) % len(GLIB)] if bad else answer
            row: dict[str, Any] = {
                "id": f"r{len(rows)}",
                "prompt": f"{question} ({turn})",
                "completion": said,
                "bad": bad,
            }
            rows.append(row)
    rows[1]["bad"] = None
    del rows[2]["bad"]
    return rows


def pairs(start: int, stop: int) -> Rows:
    return [
        {"id": f"p{n}", "prompt": f"{q} Please.", "chosen": GLIB[n % len(GLIB)], "rejected": a}
        for n, (q, a) in list(enumerate(TEXTS))[start:stop]
    ]


@pytest.fixture
def place(tmp_path: Path, model_folder: Path, write_jsonl: Callable[[str, Rows], Path]) -> Place:
    plain = [{"prompt": q, "completion": a} for q, a in TEXTS[4:]]
    return Place(
        tmp_path,
        model_folder,
        write_jsonl("data.jsonl", mixture()),
        write_jsonl("target.jsonl", pairs(0, 4)),
        write_jsonl("held_out.jsonl", pairs(4, 7)),
        write_jsonl("retain.jsonl", plain),
    )
