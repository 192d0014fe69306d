"""How a ranking does against labels, source by source."""

from collections.abc import Mapping
from typing import Any

from prism.experiments.tables import Table, figure


def source_tables(labels: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """`against_labels` of rankings by their name: AUROC against the benign rows of each source, where these have more
    than one."""
    if all(len(found["against_sources"]) < 2 for found in labels.values()):
        return []
    rows = [
        [name, one["source"], f"{one['benign']:,}", figure(one["auroc"])]
        for name, found in labels.items()
        for one in found["against_sources"]
    ]
    columns = ("ranked at", "benign rows of", "rows", "AUROC")
    return [Table("the harmful rows against the benign ones of one source", columns, rows)]
