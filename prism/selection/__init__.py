"""Budget and strategy: score table in, chosen rows out."""

from prism.selection.export import FORMATS, export
from prism.selection.select import Order, select
from prism.selection.selection import Selection

__all__ = ["FORMATS", "Order", "Selection", "export", "select"]
