"""Try out a method that takes more than one plain pass, by running it on two small parts of the pool."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prism.data import Encoder, Pool, open_pool
from prism.files import write_whole
from prism.methods.baselines import Baseline
from prism.model import Model
from prism.run.clock import Clock
from prism.run.folder import RunFolder
from prism.run.prepare import Job
from prism.run.select import measure_and_score
from prism.run.trial import TOO_LONG, spread
from prism.scoring import ScoreTable
from prism.selection.selection import json_line
from prism.target import MeasuredTarget

FEW = 32
KINDS = {
    "scores": "scores/*.parquet",
    "direction": "*.safetensors",
    "checkpoints": "checkpoints/**/*",
    "curvature": "curvature/*",
    "groups": "groups.parquet",
}


@dataclass(frozen=True)
class Trial:
    """What a run on `rows` rows took, in seconds by phase and bytes by kind of file, and what it found."""

    rows: int
    phases: dict[str, float]
    disk: dict[str, int]
    measured: MeasuredTarget
    scores: ScoreTable


class Counted:
    """Counts the batches and padded tokens that go by."""

    def __init__(self) -> None:
        self.batches = self.tokens = 0

    def start(self, phase: str, rows: int) -> None: ...

    def note(self, message: str) -> None: ...

    def advance(self, rows: int, tokens: int) -> None:
        self.batches += tokens > 0
        self.tokens += tokens


@dataclass(frozen=True)
class MethodTrial:
    """Two runs of different size, after one that warmed up, and what lies on the line through them."""

    small: Trial
    large: Trial
    counted: Counted
    curvature_samples: int

    def seconds(self, rows: int) -> dict[str, float]:
        """By phase, of a run on so many rows; a curvature is fitted on no more of them than it asks for."""
        most = {"curvature": self.curvature_samples}
        found = {}
        for name, large in self.large.phases.items():
            at = [min(count, most.get(name, count)) for count in (self.small.rows, self.large.rows, rows)]
            found[name] = _line(self.small.phases.get(name, 0.0), large, *at)
        return found

    def disk(self, rows: int) -> dict[str, int]:
        """Bytes by kind of file."""
        sizes = (self.small.rows, self.large.rows, rows)
        return {kind: round(_line(self.small.disk[kind], size, *sizes)) for kind, size in self.large.disk.items()}


def try_method(
    job: Job, identity: dict[str, Any], loaded: Callable[[], tuple[Model, Encoder]], sample: Pool, scratch: Path
) -> MethodTrial:
    """Run the method of `job` on a few rows of `sample`, then on as many as there is time for, against the whole
    target, in folders of their own under `scratch`."""
    counted = Counted()
    few = min(FEW, len(sample))
    _run(job, identity, loaded, spread(sample, few), scratch / "warm", counted)
    small = _run(job, identity, loaded, spread(sample, few), scratch / "small", counted)
    affordable = int(TOO_LONG / max(1e-9, sum(small.phases.values()) / few))
    rows = min(len(sample), max(4 * few, affordable))
    large = small if rows == few else _run(job, identity, loaded, spread(sample, rows), scratch / "large", counted)
    return MethodTrial(small, large, counted, job.config.curvature_samples)


def parts_done(job: Job, folder: Path, shards: int) -> float:
    """Which share of the passes a run folder holds the shards of already."""
    if isinstance(job.method, Baseline):
        found = max(len(list((folder / name).glob("*.parquet"))) for name in ("scores", "groups"))
        return min(1.0, found / shards)
    found = len(list(folder.glob("checkpoints/*/shard-*.parquet")))
    return min(1.0, found / (shards * max(1, len(job.checkpoints))))


def _run(
    job: Job,
    identity: dict[str, Any],
    loaded: Callable[[], tuple[Model, Encoder]],
    part: Pool,
    place: Path,
    counted: Counted,
) -> Trial:
    file = place.with_suffix(".jsonl")
    write_whole(file, (json_line(row.record).encode() + b"\n" for row in part))
    pool = open_pool([str(file)], columns=job.config.columns)
    clock = Clock()
    with closing(RunFolder(place)) as folder:
        folder.check({**identity, "pool": {"trial": place.name}})
        measured, scores = measure_and_score(replace(job, pool=pool), folder, loaded, clock, counted)
    disk = {kind: sum(f.stat().st_size for f in place.glob(sign) if f.is_file()) for kind, sign in KINDS.items()}
    return Trial(len(pool), clock.phases, {kind: size for kind, size in disk.items() if size}, measured, scores)


def _line(small: float, large: float, first: int, second: int, at: int) -> float:
    """What lies at `at` on the line through (first, small) and (second, large), which never falls."""
    if at <= second:
        return large
    slope = (large - small) / (second - first) if second > first else large / second
    return large + max(0.0, slope) * (at - second) if math.isfinite(slope) else large
