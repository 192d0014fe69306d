"""`prism repair`: mend a model that its fine-tuning data broke."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.experiments.config import RepairConfig


@with_options_of(RepairConfig)
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Drop the rows that taught an unwanted behaviour and retrain (or train on rows against it), and measure it."""
    settings = load_config(config, given, RepairConfig)
    from prism.cli.show import Bars, only_ours, show_tables
    from prism.experiments.repair import repair
    from prism.experiments.repair_report import remarks, tables

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        found = repair(settings, bars)
    if settings.as_json:
        print(json.dumps(found, allow_nan=False))
    elif not settings.quiet:
        show_tables(tables(found), [*remarks(found), f"everything is in {found['out']} (repair.md, summary.json)"])
