"""Checkpoints of a training: their folders in order, and the learning rate that weighs each."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prism.errors import ModelError, first_line

WARMUP = "warmup.json"
STATE = "trainer_state.json"
SCHEDULER = "scheduler.pt"
NUMBERED = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Rate:
    """A learning rate, and where it was read."""

    value: float
    source: str


def find_checkpoints(places: Sequence[str | Path]) -> list[Path]:
    """Checkpoint folders: of a warm-up or a training those inside it, by step; any other folder is one itself.

    Raises:
        ModelError: a place does not exist, or what its warmup.json lists is not there.
    """
    found: list[Path] = []
    for place in places:
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise ModelError(f"the checkpoint {place} is no folder here")
        found += _inside(folder) or [folder]
    return found


def _inside(folder: Path) -> list[Path]:
    if (folder / WARMUP).exists():
        listed = [folder / str(row["folder"]) for row in _listed(folder)]
        if missing := next((path for path in listed if not path.is_dir()), None):
            raise ModelError(f"{folder / WARMUP} lists {missing.name}, which is not there")
        return listed
    numbered = ((match, path) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name)))
    return [path for _, path in sorted((int(match[1]), path) for match, path in numbered if path.is_dir())]


def learning_rate(checkpoint: Path, optimizers: float | None = None) -> Rate:
    """The weight of a checkpoint where several are summed: the mean learning rate of the steps that it stands for,
    which are those since the checkpoint before it (LESS, arXiv 2402.04333; TracIn).

    It is read, in this order, from: `warmup.json` beside the folder; the learning rates that Trainer logged
    (`trainer_state.json`), averaged; the scheduler's (`scheduler.pt`); the optimizer's own, `optimizers`. The last two
    are those of the next step, and at the end of most schedules zero: a zero is no weight, and is passed over.

    Raises:
        ModelError: a file is damaged.
    """
    if (checkpoint.parent / WARMUP).exists():
        for row in _listed(checkpoint.parent):
            if row["folder"] == checkpoint.name and row.get("learning_rate") is not None:
                return Rate(_number(row["learning_rate"], checkpoint.parent / WARMUP), WARMUP)
    if rate := logged_rate(checkpoint):
        return Rate(rate, f"the mean of those logged in {STATE}")
    if rate := _scheduled(checkpoint):
        return Rate(rate, SCHEDULER)
    if optimizers:
        return Rate(optimizers, "the optimizer's state")
    return Rate(1.0, f"nowhere, so the checkpoint weighs one; {WARMUP} beside it can say more")


def logged_rate(checkpoint: Path) -> float | None:
    """The mean of the rates logged since the last checkpoint before this one, else of the last one logged."""
    file = checkpoint / STATE
    if not file.exists():
        return None
    state = _json(file)
    try:
        step = int(state["global_step"])
        rates = [
            (int(row["step"]), float(row["learning_rate"])) for row in state["log_history"] if "learning_rate" in row
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file} is not as transformers' Trainer writes it ({error!r})") from error
    beside = (NUMBERED.fullmatch(path.name) for path in checkpoint.absolute().parent.iterdir())
    before = max((int(match[1]) for match in beside if match and int(match[1]) < step), default=0)
    window = [rate for at, rate in rates if before < at <= step] or [rate for at, rate in rates if at <= step][-1:]
    return sum(window) / len(window) if window else None


def _scheduled(checkpoint: Path) -> float | None:
    file = checkpoint / SCHEDULER
    if not file.exists():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{file} can't be read ({first_line(error)}): put the rate into {WARMUP} beside it") from error
    rates = state.get("_last_lr") if isinstance(state, dict) else None
    return float(rates[0]) if rates else None


def _listed(folder: Path) -> list[dict[str, Any]]:
    file = folder / WARMUP
    record = _json(file)
    if record.get("status", "done") != "done":
        raise ModelError(f"the warm-up in {folder} is not finished: the same prism warmup command goes on with it")
    rows = record.get("checkpoints")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("folder"), str) for row in rows
    ):
        raise ModelError(f'{file} must list its checkpoints as "checkpoints": [{{"folder", "learning_rate"}}, …]')
    return rows


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object")
    return found


def _number(value: Any, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise ModelError(f"{file}: the learning rate {value!r} is no number of at least zero")
    return float(value)
