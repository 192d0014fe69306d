"""`prism train`: fine-tune on what was chosen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.training.config import TrainConfig


@with_options_of(TrainConfig, argument="data")
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Fine-tune a model on a run's selection, or on any rows."""
    settings = load_config(config, given, TrainConfig)
    from prism.cli.show import Bars, only_ours
    from prism.cli.show_evidence import show_trained
    from prism.training import train

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        done = train(settings, bars)
    if settings.as_json:
        print(json.dumps(done.summary, allow_nan=False))
    elif not settings.quiet:
        show_trained(done.folder, done.summary, done.model_place)
