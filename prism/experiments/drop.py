"""Which rows of an SFT set go, and the files of what stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prism.budget import Budget
from prism.data import Pool, open_pool
from prism.errors import ConfigError, DataError
from prism.experiments.config import RepairConfig
from prism.experiments.labels import read_labels, threshold_from
from prism.files import write_whole
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
    """Raises ConfigError where --drop is no less than all rows."""
    pool = open_pool(config.data, columns=config.columns)
    drop = Budget.parse(config.drop) if config.drop else None
    if drop is not None and drop.unit == "samples" and drop.amount >= len(pool):
        raise _all_gone(config, len(pool))


def choose_drop(
    config: RepairConfig, folder: Path, place: dict[str, str | None], progress: Progress
) -> tuple[Run, Drop]:
    """Rank the data at a model (its places, as config fields) into `folder`, and choose what goes.

    Labelled rows of `calibrate` are ranked in one run with the data: scores may depend on all rows that are ranked, as
    those with a fitted curvature or with frequencies of words do, and a threshold must be of the same scale.

    Raises:
        ConfigError: all rows would go.
        DataError: no threshold can be had from the labelled rows, or no row is above it.
    """
    data = open_pool(config.data, columns=config.columns, on_bad_row=config.on_bad_row)
    names = _names(data)
    labelled = {place: _names(open_pool([place], columns=config.columns)) for place in config.calibrate}
    beside = [place for place, found in labelled.items() if not found <= names]
    settings = config.ranking(out=str(folder), budget=config.drop or "1", pool=[*config.data, *beside], **place)
    run = run_select(settings, progress)
    drop, scores = Drop(run.selection), run.selection.scores
    if config.calibrate:
        assert config.label_column is not None
        labels = read_labels(scores.pool, scores, config.label_column, set().union(*labelled.values()))
        drop = _above(_first(scores, data), threshold_from(scores, labels))
        progress.note(f"threshold {drop.threshold:.6g}: {len(drop.selection)} of {len(drop.selection.scores)} rows go")
    if len(drop.selection) >= len(drop.selection.scores):
        raise _all_gone(config, len(drop.selection.scores))
    return run, drop


def _all_gone(config: RepairConfig, rows: int) -> ConfigError:
    return ConfigError(
        f"all {rows} rows would be dropped: nothing would be left to retrain on; lower --drop"
        + (", or look at the labelled rows of --calibrate" if config.calibrate else "")
    )


def _names(pool: Pool) -> set[str]:
    return {source.name for source in pool.sources}


def _first(scores: ScoreTable, pool: Pool) -> ScoreTable:
    """The scores of the rows of `pool`, which are the first of all that were ranked."""
    count = np.searchsorted(scores.column("index"), len(pool) + len(pool.rejected))
    names = _names(pool)
    rejected = [row for row in scores.rejected if row.file in names]
    return ScoreTable(scores.table.slice(0, int(count)), rejected, pool, scores.details)


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
