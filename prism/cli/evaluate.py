"""`prism evaluate`: what a model does now."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.evaluation.config import EvaluateConfig


@with_options_of(EvaluateConfig, argument="model")
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Measure a model on held-out pairs, rows to retain, generations and tasks."""
    settings = load_config(config, given, EvaluateConfig)
    from prism.cli.show import Bars, only_ours
    from prism.cli.show_evidence import show_evaluated
    from prism.evaluation import evaluate

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        report = evaluate(settings, bars)
    if settings.as_json:
        print(json.dumps(report, allow_nan=False))
    elif not settings.quiet:
        show_evaluated(report)
