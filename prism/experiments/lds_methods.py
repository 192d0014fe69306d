"""Sums of a method's scores over subsets of a run's pool, for the linear datamodeling score."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from prism.config import SelectConfig
from prism.data import open_target
from prism.errors import ConfigError
from prism.experiments.lds import Flags, Floats, summed
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.progress import Progress
from prism.run.baselines import MATRIX
from prism.run.folder import RunFiles
from prism.run.select import run_select
from prism.scoring import PairScores

Sums = tuple[Floats, Floats | None, list[str]]
OWN = (
    "curvature",
    "curvature_from",
    "preference_from",
    "checkpoints",
    "aggregate",
    "gradient_norms",
)  # options of the run's own method


def require_methods(names: Sequence[str], checkpoints: Sequence[str], run: SelectConfig) -> None:
    """Raises ConfigError where there is no such method, or one needs checkpoints and none are named."""
    for name in names:
        method = find_method(name)
        if name != run.method and _takes_checkpoints(method) and not checkpoints:
            raise ConfigError(
                f"--methods {name}: it scores at the checkpoints of a warm-up: make some with prism warmup, and name "
                "their folder with --checkpoints"
            )


def method_sums(
    name: str, run: SelectConfig, checkpoints: list[str], subsets: Flags, folder: Path, progress: Progress
) -> Sums:
    """(sums of the method's scores [subsets], of its scores against single pairs [subsets, Q] or None, the pairs' ids).

    Pairs come from pair scores where a method is linear in them; from a run whose subtasks are the single pairs where
    it goes by subtask and pairs have ids of their own; other methods have none.

    Raises:
        PrismError: the method can't be run on the pool.
    """
    method = find_method(name)
    other = {field: SelectConfig.model_fields[field].get_default() for field in OWN} if name != run.method else {}
    given = {"checkpoints": checkpoints} if name != run.method and _takes_checkpoints(method) else {}
    linear = isinstance(method, Recipe) and method.plain and method.target != "dpo"
    settings = run.model_copy(
        update={
            **other,
            **given,
            "method": name,
            "out": str(folder / name),
            "budget": "1",
            "pair_scores": linear,
            "strategy": "top",
        }
    )
    made = run_select(settings, progress)
    values = made.selection.scores.column("score")
    sums = subsets.astype(np.float64) @ np.nan_to_num(values)
    if linear:
        assert isinstance(method, Recipe)
        files = RunFiles(made.folder)
        matrix = PairScores(made.folder / "pairs.parquet", str((files.manifest or {})["fingerprint"]))
        return sums, summed(matrix, subsets, rejected=method.target == "pair"), matrix.pairs
    if isinstance(method, Recipe) and method.aggregate.startswith("subtask") and _own_ids(settings):
        columns = {**settings.target_columns, "subtask": settings.target_columns.get("id", "id")}
        by_pair = run_select(
            settings.model_copy(update={"target_columns": columns, "out": str(folder / f"{name}-by-pair")}), progress
        )
        return sums, *_groups(by_pair.folder / MATRIX, subsets)
    return sums, None, []


def _groups(path: Path, subsets: Flags) -> tuple[Floats, list[str]]:
    """Sums over subsets of the scores against single subtasks."""
    file = pq.ParquetFile(path)
    names: list[str] = json.loads(file.schema_arrow.metadata[b"prism.targets"])
    total, start = np.zeros((len(subsets), len(names))), 0
    for number in range(file.num_row_groups):
        column = file.read_row_group(number, columns=["scores"]).column(0).combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(names))
        total += subsets[:, start : start + len(values)].astype(np.float64) @ np.nan_to_num(values)
        start += len(values)
    return total, names


def _takes_checkpoints(method: object) -> bool:
    return isinstance(method, Recipe) and (method.checkpoints == "all" or method.candidate_map == "adam")


def _own_ids(config: SelectConfig) -> bool:
    """Whether every pair has an id of its own to be a subtask by."""
    name = config.target_columns.get("id", "id")
    return all(
        isinstance(pair.record.get(name), str) for pair in open_target(config.target, columns=config.target_columns)
    )
