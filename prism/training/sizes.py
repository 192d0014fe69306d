"""Sensible settings by the model's size, where the user gives none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """For models of at most `parameters` weights: what trains by default, and how."""

    parameters: float
    full: bool
    rate_full: float
    rate_lora: float
    epochs: int
    batch: int  # samples per optimizer step
    device_batch: int  # of those, at a time
    rank: int
    recompute: bool  # activations, to save memory


DEFAULTS = (
    Defaults(30e6, True, 1e-3, 3e-3, 2, 8, 8, 16, False),
    Defaults(300e6, True, 1e-4, 1e-3, 3, 16, 8, 16, False),
    Defaults(3e9, False, 2e-5, 2e-4, 3, 16, 4, 16, True),
    Defaults(float("inf"), False, 1e-5, 1e-4, 3, 32, 2, 32, True),
)


def defaults_for(parameters: int) -> Defaults:
    return next(row for row in DEFAULTS if parameters <= row.parameters)
