"""What each target pair contributes to the scores of a few rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prism.config import bytes_of
from prism.curvature import Curvature
from prism.data import Encoded, Encoder
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress
from prism.run.prepare import Job
from prism.scoring.choose import Chosen, backward_engine
from prism.scoring.matrix import Tiling, pair_directions
from prism.scoring.scorer import Scorer
from prism.target import MeasuredTarget
from prism.target.losses import encode_pairs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pulls:
    """contributions [rows, pairs]: w_q (S+_q - S-_q) / |Q|, or w_q S+_q / |Q| for a target of y+
    alone, which sum over the `pairs` (their ids) to the score. Pairs that are too long for the memory beside the
    directions are left out."""

    pairs: list[str]
    contributions: Floats


def pair_pulls(
    job: Job,
    model: Model,
    encoder: Encoder,
    measured: MeasuredTarget,
    curvature: Curvature,
    samples: Sequence[Encoded],
    progress: Progress,
) -> Pulls:
    """Score `samples` against every pair that takes part in the direction, a tile of pairs at a time."""
    table = measured.table.select(["id", "weight"]).to_pydict()
    weights = {name: weight for name, weight in zip(table["id"], table["weight"], strict=True) if weight}
    found, encoded, _ = encode_pairs(job.target, encoder)
    kept = [(pair.id, sides) for pair, sides in zip(found, encoded, strict=True) if pair.id in weights]
    tiling = Tiling.plan(model, len(kept), bytes_of(job.config.direction_memory))
    progress.start("pairs", len(kept))
    paired = not isinstance(job.method, Recipe) or job.method.target == "pair"
    parts, names = [np.empty((len(samples), 0))], list[str]()
    for tile, _, _ in tiling.tiles():
        sides = [pair for _, pair in kept[tile]]
        v = pair_directions(model, sides, curvature)
        engine, _ = backward_engine(model, v.tensors, norms=False, probes=samples, sizes=v.sizes)
        scorer = Scorer(model, Chosen(engine, ""), 2 * len(sides), job.config.batch_tokens)
        scores = scorer.score(samples, lambda *_: None).scores
        rejected = scores[:, len(sides) :] if paired else 0.0
        parts.append((scores[:, : len(sides)] - rejected)[:, v.fits])
        names += [name for (name, _), fits in zip(kept[tile], v.fits, strict=True) if fits]
        progress.advance(len(sides), 0)
    if len(names) < len(kept):
        progress.note(f"{len(kept) - len(names)} pairs are too long for the memory: they are left out")
    w = np.array([weights[name] for name in names])
    return Pulls(names, np.concatenate(parts, 1) * w / len(kept))
