"""`prism cascade`: a cheap method first, then a better one on what it keeps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.run.cascade_config import CascadeConfig


@with_options_of(CascadeConfig)
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Let a cheap method keep a share of the pool, and another method select from that."""
    settings = load_config(config, given, CascadeConfig)
    from prism.cli.show import Bars, only_ours
    from prism.cli.show_cascade import show_cascade
    from prism.run.cascade import run_cascade

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        made = run_cascade(settings, bars)
    if settings.as_json:
        print(json.dumps(made.summary, allow_nan=False))
    elif not settings.quiet:
        show_cascade(made.summary)
