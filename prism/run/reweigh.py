"""Rank a finished run anew under other pair weights, without its model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prism.config import load_config
from prism.errors import ConfigError, RunError
from prism.files import write_whole
from prism.methods.recipe import Recipe
from prism.run.prepare import method_of, why_not_pairs
from prism.run.select import finished_run
from prism.scoring import ScoreTable
from prism.selection import PairGains, Selection, select
from prism.target import MeasuredTarget
from prism.target.weights import weighting


@dataclass(frozen=True)
class Reweighed:
    """The folder that the new selection went to, the selection, and what to say of it."""

    folder: Path
    selection: Selection
    summary: dict[str, Any]


def reweigh(run: Path, weights: str, out: Path | None = None, **selection: Any) -> Reweighed:
    """Score the pool of `run` under other pair weights and select, as the run did but for what `selection` changes.

    Args:
        weights: a name of `prism.target.weights.WEIGHTINGS`, or `prism^GAMMA`.
        out: where `selected.jsonl`, `scores.parquet` and `summary.json` go; RUN/reweighed/WEIGHTS unless given.

    Raises:
        RunError: the run is not finished, has no pair scores, or its pool has changed.
        ConfigError: the weights or the budget are malformed.
    """
    rule = weighting(weights)
    with finished_run(run) as (config, folder, measured, scores):
        method = method_of(folder.identity)
        if reason := why_not_pairs(method):
            raise ConfigError(f"{run} was scored by {config.method}, whose pairs can't be reweighed: {reason}")
        matrix = folder.pair_scores()
        of_pairs = rule.weigh(_preferences(measured, matrix.pairs))
        table = _with_scores(scores, matrix.weighted(of_pairs, rule.rejected))
        options = (load_config(run / "config.yaml", selection) if selection else config).stage("selection")
        gains = PairGains.of(matrix, measured.table, of_pairs, rule.rejected)
        before = select(scores, gains=folder.gains(measured), **options)
        after = select(table, gains=lambda: gains, **options)
        place = out or run / "reweighed" / weights
        try:
            place.mkdir(parents=True, exist_ok=True)
            after.save(place / "selected.jsonl")
            sink = pa.BufferOutputStream()
            pa.parquet.write_table(table.table.select(["index", "id", "score"]), sink, compression="zstd")
            write_whole(place / "scores.parquet", sink.getvalue().to_pybytes())
            own = method.curvature if isinstance(method, Recipe) else "identity"
            curved = (config.curvature or own) != "identity"  # a score is no change of the objective then
            gain, random_gain = (None, None) if curved else after.gain()
            summary = {
                "run": str(run),
                "out": str(place),
                "weights": weights,
                "about": rule.about,
                "pairs": len(matrix.pairs),
                "rows": len(after),
                "of": len(table),
                "selection": dict(after.details),
                "same_as_the_run": len(np.intersect1d(before.places, after.places)),
                "sources": after.sources(),
                "gain": gain,
                "random_gain": random_gain,
                "notices": list(after.notices),
            }
            write_whole(place / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"{place} can't be written: {error}") from error
    return Reweighed(place, after, summary)


def _preferences(measured: MeasuredTarget, pairs: list[str]) -> Any:
    known = dict(zip(*(measured.table.column(name).to_pylist() for name in ("id", "preference")), strict=True))
    return np.array([known[pair] for pair in pairs])


def _with_scores(scores: ScoreTable, values: Any) -> ScoreTable:
    """The same rows with other scores; those without a finite one keep none."""
    place = scores.table.schema.get_field_index("score")
    kept = np.where(np.isfinite(scores.column("score")), values, np.nan)
    return replace(scores, table=scores.table.set_column(place, "score", pa.array(kept, pa.float64())))
