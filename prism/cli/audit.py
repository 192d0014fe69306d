"""`prism audit`: which rows of an SFT set push a model towards a behaviour, and why."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.experiments.config import AuditConfig


@with_options_of(AuditConfig)
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Rank the rows of an SFT set by how much they teach an unwanted behaviour, and explain the worst."""
    settings = load_config(config, given, AuditConfig)
    from prism.cli.show import Bars, only_ours, show_tables
    from prism.experiments.audit import audit, tables

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        found = audit(settings, bars)
    if settings.as_json:
        print(json.dumps(found, allow_nan=False))
    elif not settings.quiet:
        show_tables(tables(found), [found["explained"], f"everything is in {found['out']} (audit.md, audit.json)"])
