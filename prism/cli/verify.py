"""`prism verify`: whether the theory holds on a run of yours."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prism.cli.options import with_options_of
from prism.config import load_config
from prism.experiments.verify_config import VerifyConfig


@with_options_of(VerifyConfig, argument="run")
def command(config: Path | None, given: Mapping[str, Any]) -> None:
    """Compare what scores foretell with what steps, trainings and retrainings on random subsets do."""
    settings = load_config(config, given, VerifyConfig)
    from prism.cli.show import Bars, only_ours, show_tables
    from prism.experiments.verify import verify
    from prism.experiments.verify_report import remarks, tables

    with only_ours(), Bars(quiet=settings.quiet or settings.as_json) as bars:
        found = verify(settings, bars)
    if settings.as_json:
        print(json.dumps(found, allow_nan=False))
    elif not settings.quiet:
        show_tables(tables(found), [*remarks(found), f"everything is in {found['out']} (verify.md, verify.json)"])
