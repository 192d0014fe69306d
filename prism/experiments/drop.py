"""Which rows of an SFT set go, and the files of what stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prism.errors import ConfigError, DataError
from prism.experiments.config import RepairConfig
from prism.experiments.labels import read_labels, threshold_from
from prism.files import write_whole
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.progress import Progress
from prism.run.select import Run, run_select
from prism.scoring import ScoreTable
from prism.selection import Selection
from prism.selection.selection import finite_rows, json_line

Fields = dict[str, str | None]


@dataclass(frozen=True)
class Drop:
    """Rows to drop, best placed first, and the score at and above which they were, if a threshold chose them."""

    selection: Selection
    threshold: float | None = None


def require_droppable(config: RepairConfig) -> None:
    """Raises ConfigError where a threshold is asked of a method that gives none."""
    if config.calibrate and _ranks(config):
        raise ConfigError(
            f"--calibrate: scores of the method {config.method} are places in an order, which another set's threshold "
            "can't cut: use --drop"
        )


def choose_drop(
    config: RepairConfig, folder: Path, place: dict[str, str | None], progress: Progress
) -> tuple[Run, Drop]:
    """Rank the data at a model (its places, as config fields) into `folder`, and choose what goes.

    Raises:
        ConfigError: all rows would go.
        DataError: no threshold can be had from the labelled rows, or no row is above it.
    """
    require_droppable(config)
    budget = config.drop or "1"
    run = run_select(config.ranking(out=str(folder), budget=budget, **place), progress)
    drop = Drop(run.selection)
    if config.calibrate:
        assert config.label_column is not None
        beside = folder.with_name(f"{folder.name}-calibration")
        small = run_select(
            config.ranking(out=str(beside), budget="1", pool=config.calibrate, **place), progress
        ).selection.scores
        labels = read_labels(small.pool, small, config.label_column)
        drop = _above(run.selection.scores, threshold_from(small, labels))
        progress.note(f"threshold {drop.threshold:.6g}: {len(drop.selection)} of {len(drop.selection.scores)} rows go")
    if len(drop.selection) >= len(run.selection.scores):
        raise ConfigError(
            f"all {len(run.selection.scores)} rows would be dropped: nothing would be left to retrain on; lower --drop"
            + (", or look at the labelled rows of --calibrate" if config.calibrate else "")
        )
    return run, drop


def _ranks(config: RepairConfig) -> bool:
    """Whether scores are places in a round-robin order."""
    method = find_method(config.method)
    if isinstance(method, Recipe):
        return method.aggregate == "subtask-round-robin"
    return (config.aggregate or method.aggregate) == "round-robin"


def _above(scores: ScoreTable, threshold: float) -> Drop:
    values = scores.column("score")
    places = np.flatnonzero(finite_rows(scores) & (values >= threshold))
    if not len(places):
        raise DataError(f"no row scores at or above the threshold {threshold:.6g}: there is nothing to drop")
    return Drop(Selection(scores, places[np.argsort(-values[places], kind="stable")]), threshold)


def write_sides(drop: Drop, folder: Path) -> tuple[Path, Path]:
    """(kept.jsonl, dropped.jsonl): the user's own rows, those that stay untouched and in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = drop.selection.scores
    gone = set(scores.column("index")[drop.selection.places].tolist())
    kept, dropped = folder / "kept.jsonl", folder / "dropped.jsonl"
    write_whole(kept, _others(scores, gone))
    drop.selection.save(dropped)
    return kept, dropped


def _others(scores: ScoreTable, gone: set[int]) -> Iterator[bytes]:
    return (f"{json_line(row.record)}\n".encode() for row in scores.pool if row.index not in gone)
