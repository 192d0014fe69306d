"""`prism warmup`: checkpoints of a short training, with Adam's moments, to measure influence at."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.training.warmup_config import WarmupConfig


@with_options_of(WarmupConfig)
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Train on a random share of the pool, and keep checkpoints with their optimizer states (for LESS)."""
    settings = load_config(config, given, WarmupConfig)
    from prism.cli.show import Bars, only_ours
    from prism.cli.show_evidence import show_warmed_up
    from prism.training.warmup import warmup

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        folder = warmup(settings, bars)
    summary = json.loads((folder / "warmup.json").read_text(encoding="utf-8"))
    if settings.as_json:
        print(json.dumps(summary, allow_nan=False))
    elif not settings.quiet:
        show_warmed_up(folder, summary)
