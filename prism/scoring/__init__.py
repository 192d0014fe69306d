"""One streaming pass: a direction in, a score table out."""

from prism.scoring.assemble import stored_scores
from prism.scoring.choose import EngineName
from prism.scoring.shards import Folder, ShardStore
from prism.scoring.stream import score_pool
from prism.scoring.table import ScoreTable, quantiles, repeated_values

__all__ = [
    "EngineName",
    "Folder",
    "ScoreTable",
    "ShardStore",
    "quantiles",
    "repeated_values",
    "score_pool",
    "stored_scores",
]
