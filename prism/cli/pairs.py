"""`prism pairs`: target pairs from what people have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.pairs.config import PairsConfig


@with_options_of(PairsConfig, argument="kind")
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Make target pairs from multiple choice, preferences, a model's own wrong answers, other items' answers, or two
    system prompts."""
    settings = load_config(config, given, PairsConfig)
    from prism.cli.show import Bars, only_ours
    from prism.cli.show_pairs import show_pairs
    from prism.pairs.make import make_pairs

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        made = make_pairs(settings, bars)
    if settings.as_json:
        print(json.dumps(made.summary, allow_nan=False))
    elif not settings.quiet:
        show_pairs(made.summary)
