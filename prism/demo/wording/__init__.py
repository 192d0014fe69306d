"""The wording of the demo's rows, one YAML file per skill; the order of its entries is part of what a seed draws."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def load(name: str) -> dict[str, Any]:
    """The phrase banks in `name`.yaml, by their names."""
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    banks: dict[str, Any] = yaml.load(text, Loader=LOADER)
    return banks
