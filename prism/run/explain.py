"""What makes the scores of single rows of a finished run: their tokens, and the target pairs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prism.data import Row
from prism.errors import ConfigError, DataError
from prism.methods.baselines import Baseline
from prism.methods.combine import normalised
from prism.methods.recipe import Recipe
from prism.progress import Progress, Silent
from prism.run.curvature import curvature_of
from prism.run.prepare import load, method_of, open_job
from prism.run.provenance import MACHINE
from prism.run.pulls import Pulls, pair_pulls
from prism.run.recipes import curvature_place, parts_of
from prism.run.select import finished_run
from prism.scoring import ScoreTable
from prism.scoring.explain import explain


def explain_row(run: Path, row_id: str, progress: Progress | None = None) -> dict[str, Any]:
    """What each response token of row `row_id` contributes to its score, JSON-ready.

    Raises:
        RunError: the run is not finished, or its pool, model or target has changed since.
        DataError: the run scored no row of that id.
    """
    return explain_rows(run, [row_id], progress)[0][0]


def explain_rows(
    run: Path, ids: Sequence[str], progress: Progress | None = None, *, pulls: bool = False
) -> tuple[list[dict[str, Any]], Pulls | None]:
    """The same for several rows, with the model loaded once, and, if asked for, what each target pair contributes.

    A method that divides a row's product by its tokens or norm has the parts divided by the same.
    """
    progress = progress or Silent()
    with finished_run(run) as (config, folder, measured, scores):
        method = method_of(folder.identity)
        if not isinstance(method, Recipe) or not method.linear:
            raise ConfigError(f"{run} was scored by {config.method}, whose scores don't split by token: {why(method)}")
        job = open_job(config, method)
        folder.check(job.identity(), but=MACHINE)
        found = _found(run, scores, ids)
        model, encoder = load(job.scored, progress)
        samples = [encoder.row(row) for row, _, _ in found]
        (part,) = parts_of(job, folder)
        curvature = curvature_of(job, curvature_place(job, folder, part), model, encoder, progress)
        direction = curvature.solve(measured.direction)
        tokens, norms = [sample.response_tokens for sample in samples], [norm for _, _, norm in found]
        ones = np.ones((len(samples), 1))
        factors = normalised(method, ones, np.array(norms), np.array(tokens), np.array([direction.norm()]))
        progress.start("tokens", len(ids))
        rows = []
        for (row, score, _), sample, factor in zip(found, samples, factors, strict=True):
            view = explain(model, sample, direction, batch_tokens=config.batch_tokens)
            view = replace(view, contributions=view.contributions * factor)
            columns = (column.tolist() for column in (view.places, view.ids, view.losses, view.contributions))
            names = ("place", "id", "loss", "contribution")
            parts = [dict(zip(names, part, strict=True)) for part in zip(*columns, strict=True)]
            rows.append(
                {
                    "id": row.id,
                    "run_score": score,
                    "score": view.score,
                    "how": view.how,
                    "truncated": sample.truncated,
                    "tokens": [{**part, "text": model.tokenizer.decode([part["id"]])} for part in parts],
                }
            )
            progress.advance(1, len(sample))
        if not pulls:
            return rows, None
        of_pairs = pair_pulls(job, model, encoder, measured, curvature, samples, progress)
        return rows, replace(of_pairs, contributions=of_pairs.contributions * factors)


def why(method: Recipe | Baseline) -> str:
    """Why the scores of a method are no sums over tokens."""
    if not isinstance(method, Recipe):
        return "it uses no gradients"
    if method.candidate_map != "identity":
        return f"the {method.candidate_map} map is not linear"
    if method.checkpoints == "all":
        return "they sum over checkpoints"
    return "they aggregate over subtasks"


def _found(run: Path, scores: ScoreTable, ids: Sequence[str]) -> list[tuple[Row, float, float]]:
    """(row, its score in the run, its gradient's norm where that was kept) by id, in the order asked for."""
    wanted = set(ids)
    values, norms = scores.column("score"), scores.column("gradient_norm")
    names = scores.table.column("id").to_pylist()
    places = {name: (float(values[n]), float(norms[n])) for n, name in enumerate(names) if name in wanted}
    rows = {row.id: row for row in scores.pool if row.id in wanted}
    for name in ids:
        if name not in places or name not in rows:
            raise DataError(f"no row of {run} has the id {name!r}: selected.jsonl holds ids as prism.id")
    return [(rows[name], *places[name]) for name in ids]
