"""Add to a run its scores against each target pair."""

import math
import shutil

from prism.config import bytes_of
from prism.data import Encoder
from prism.errors import ConfigError
from prism.model import Model
from prism.progress import Progress
from prism.run.curvature import curvature_of
from prism.run.folder import PAIR_SCORES, RunFiles, RunFolder
from prism.run.prepare import Job, why_not_pairs
from prism.scoring import SHARD_ROWS, Folder, ScoreTable
from prism.scoring.matrix import Tiling, score_pairs
from prism.scoring.pairs import gather
from prism.selection import OF_PAIRS
from prism.target import MeasuredTarget
from prism.target.losses import encode_pairs


def require_pair_scores(job: Job, folder: RunFiles) -> None:
    """Raises ConfigError where the strategy needs scores that the run neither has nor is to make."""
    config = job.config
    if config.strategy in OF_PAIRS and not config.pair_scores and not folder.has_pair_scores():
        needs = f"--strategy {config.strategy} needs the scores against each target pair"
        if reason := why_not_pairs(job.method):
            raise ConfigError(f"{needs}, which the method {job.method.name} can't have: {reason}")
        raise ConfigError(f"{needs}: add --pair-scores")


def add_pair_scores(
    job: Job,
    folder: RunFolder,
    model: Model,
    encoder: Encoder,
    measured: MeasuredTarget,
    scores: ScoreTable,
    progress: Progress,
) -> None:
    """Score the pool against every pair that took part in the direction; `pairs.parquet` is there when all is done."""
    table = measured.table.select(["id", "weight"]).to_pydict()
    taking_part = {name for name, weight in zip(table["id"], table["weight"], strict=True) if weight}
    found, encoded, _ = encode_pairs(job.target, encoder)
    kept = [(pair.id, sides) for pair, sides in zip(found, encoded, strict=True) if pair.id in taking_part]
    tiling = Tiling.plan(model, len(kept), bytes_of(job.config.direction_memory))
    score_pairs(
        model,
        job.pool,
        [sides for _, sides in kept],
        encoder,
        curvature_of(job, folder, model, encoder, progress),
        folder=folder.pair_tiles,
        fingerprint=folder.fingerprint,
        tiling=tiling,
        batch_tokens=job.config.batch_tokens,
        progress=progress,
    )
    stores = [Folder(folder.pair_tiles / name, folder.fingerprint, schema) for _, name, schema in tiling.tiles()]
    shards = math.ceil(scores.details["good"] / SHARD_ROWS)
    names = [name for name, _ in kept]
    left_out = gather(folder.path / PAIR_SCORES, folder.fingerprint, names, folder.shards(), stores, shards)
    if left_out:
        progress.note(f"the pair scores leave out {len(left_out)} of {len(kept)} pairs, such as {left_out[0]}")
    shutil.rmtree(folder.pair_tiles)
