"""Budget and strategy: score table in, chosen rows out."""

from prism.selection.export import FORMATS, export
from prism.selection.gains import PairGains
from prism.selection.select import OF_PAIRS, STRATEGIES, select
from prism.selection.selection import Selection
from prism.selection.strategies import Order

__all__ = ["FORMATS", "OF_PAIRS", "STRATEGIES", "Order", "PairGains", "Selection", "export", "select"]
