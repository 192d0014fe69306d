"""`prism select`: the main job."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import SelectConfig, load_config


@with_options_of(SelectConfig)
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Select the pool rows that move a model towards the target behaviour the most."""
    settings = load_config(config, given)
    from prism.cli.show import Bars, only_ours, show_summary
    from prism.cli.show_estimate import show_estimate
    from prism.run.estimate import estimate_run
    from prism.run.select import run_select  # torch and transformers take seconds to import

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        if not settings.dry_run:
            run = run_select(settings, bars)
        else:
            estimate = estimate_run(settings, bars)
    if settings.dry_run:
        if settings.as_json:
            print(json.dumps(estimate, allow_nan=False))
        elif not settings.quiet:
            show_estimate(estimate)
        return
    if settings.as_json:
        print(json.dumps(run.summary, allow_nan=False))
    elif not settings.quiet:
        show_summary(run.summary)
