"""The token view of one row of a finished run."""

from pathlib import Path
from typing import Any

from prism.curvature import Identity
from prism.errors import DataError
from prism.progress import Progress, Silent
from prism.run.prepare import load, open_job
from prism.run.provenance import MACHINE
from prism.run.select import finished_run
from prism.scoring.explain import explain


def explain_row(run: Path, row_id: str, progress: Progress | None = None) -> dict[str, Any]:
    """What each response token of row `row_id` contributes to its score, JSON-ready.

    Raises:
        RunError: the run is not finished, or its pool, model or target has changed since.
        DataError: the run scored no row of that id.
    """
    with finished_run(run) as (config, folder, measured, scores):
        job = open_job(config)
        folder.check(job.identity(), but=MACHINE)
        row = next((row for row in job.pool if row.id == row_id), None)
        place = next((n for n, name in enumerate(scores.table.column("id").to_pylist()) if name == row_id), None)
        if row is None or place is None:
            raise DataError(f"no row of {run} has the id {row_id!r}: selected.jsonl holds ids as prism.id")
        model, encoder = load(config, progress or Silent())
        sample = encoder.row(row)
        direction = Identity().solve(measured.direction)
        view = explain(model, sample, direction, batch_tokens=config.batch_tokens)
        return {
            "id": row_id,
            "run_score": float(scores.column("score")[place]),
            "score": view.score,
            "how": view.how,
            "truncated": sample.truncated,
            "tokens": [
                {
                    "place": place,
                    "id": token,
                    "text": model.tokenizer.decode([token]),
                    "loss": loss,
                    "contribution": part,
                }
                for place, token, loss, part in zip(
                    *(column.tolist() for column in (view.places, view.ids, view.losses, view.contributions)),
                    strict=True,
                )
            ],
        }
