"""One streaming pass: a direction in, a score table out."""

from prism.scoring.assemble import stored_scores
from prism.scoring.choose import Chosen, EngineName, choose_engine
from prism.scoring.feed import first_encoded
from prism.scoring.pairs import PairScores
from prism.scoring.shards import SHARD_ROWS, Folder, Shard, ShardStore
from prism.scoring.stream import score_pool
from prism.scoring.table import ScoreTable, quantiles, repeated_values

__all__ = [
    "SHARD_ROWS",
    "Chosen",
    "EngineName",
    "Folder",
    "PairScores",
    "ScoreTable",
    "Shard",
    "ShardStore",
    "choose_engine",
    "first_encoded",
    "quantiles",
    "repeated_values",
    "score_pool",
    "stored_scores",
]
