"""Budget and strategy: score table in, chosen rows out."""

from prism.selection.export import FORMATS, export
from prism.selection.select import Order, Selection, select

__all__ = ["FORMATS", "Order", "Selection", "export", "select"]
