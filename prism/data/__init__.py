"""Read any usual format, render chat templates, mask the response, batch by token budget."""

from prism.data.aside import BadRows
from prism.data.batches import Batch, collate, plan_batches
from prism.data.encode import Encoded, Encoder, Responses
from prism.data.pool import OnBadRow, Pool, Rows, Target, load_pool, load_target, open_pool, open_target
from prism.data.rows import Pair, Row

__all__ = [
    "BadRows", "Batch", "Encoded", "Encoder", "OnBadRow", "Pair", "Pool", "Responses", "Row", "Rows", "Target",
    "collate", "load_pool", "load_target", "open_pool", "open_target", "plan_batches",
]  # fmt: skip
