"""A method without gradients, in a run folder."""

import math
import shutil
from collections.abc import Callable
from functools import cache

import pyarrow as pa

from prism.config import SelectConfig
from prism.data import Encoder
from prism.methods.baselines import Baseline, score_baseline
from prism.methods.baselines.matrix import gather_matrix, matrix_schema
from prism.methods.context import Context, Options
from prism.model import Model, load_model
from prism.model.load import load_encoder
from prism.model.places import find_other
from prism.progress import Progress
from prism.run.folder import RunFolder
from prism.run.prepare import Job
from prism.scoring import SHARD_ROWS, Folder, ScoreTable

MATRIX = "groups.parquet"
WAITING = "groups"


def run_baseline(baseline: Baseline, context: Context, options: Options, folder: RunFolder) -> ScoreTable:
    """Score the pool of a context into a run folder's shards; with round-robin, `groups.parquet` holds the scores
    against each target. The model's weights are loaded only by what needs them."""

    def matrix(schema: pa.Schema) -> Folder:
        return Folder(folder.path / WAITING, folder.fingerprint, schema)

    scores = score_baseline(baseline, context, options, store=folder.shards(), matrix=matrix)
    if baseline.aggregated(options) == "round-robin":
        targets = [pair.id for pair in context.pairs[0]]
        waiting, shards = matrix(matrix_schema(len(targets))), math.ceil(scores.details["good"] / SHARD_ROWS)
        gather_matrix(folder.path / MATRIX, folder.fingerprint, targets, waiting, shards)
        shutil.rmtree(folder.path / WAITING)
    return scores


def context_of(job: Job, loaded: Callable[[], tuple[Model, Encoder]], progress: Progress, *, weights: bool) -> Context:
    """What a baseline works with in a job; `weights` tells whether it runs the model, whose encoder is then at hand."""
    config = job.config

    @cache
    def words() -> Encoder:
        if weights:
            return loaded()[1]
        return load_encoder(
            job.places,
            max_length=config.max_length,
            responses=config.responses,
            plain=config.plain,
            trust_remote_code=config.trust_remote_code,
        )

    def other(place: str) -> Model:
        return load_other(config, place)

    return Context(
        pool=job.pool,
        target=job.target,
        words=words,
        loaded=loaded,
        other=other,
        device=job.device,
        allow_pickle=config.allow_pickle,
        seed=config.seed,
        batch_tokens=config.batch_tokens,
        progress=progress,
    )


def load_other(config: SelectConfig, place: str) -> Model:
    """Another model, or the run's model with another adapter, on the same device and in the same precision."""
    _, adapter = find_other(place, config.allow_pickle)
    return load_model(
        config.model if adapter else place,
        adapter=place if adapter else None,
        tokenizer=config.tokenizer,
        revision=config.revision if adapter else None,
        device=config.device,
        dtype=config.dtype,
        quantize=config.quantize,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
