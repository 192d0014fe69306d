"""What a run depends on, and on what it ran."""

from typing import Any

from prism import __version__
from prism.circumstances import circumstances, numbered, version_of
from prism.config import SelectConfig
from prism.data import Pool, Target
from prism.model import Places

__all__ = ["LIBRARIES", "MACHINE", "circumstances", "identity", "numbered"]

MACHINE = ("device", "version")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft")


def identity(
    config: SelectConfig, places: Places, pool: Pool, target: Target, device: str, method: dict[str, Any]
) -> dict[str, Any]:
    """All that the scores are a function of: a run folder refuses to go on when any of it has changed.

    Scores that are finished stay what they are when only the `MACHINE` changes.
    """
    libraries = LIBRARIES if config.quantize is None else (*LIBRARIES, "bitsandbytes")
    return {
        **places.fingerprints(),
        "pool": numbered(pool.fingerprints),
        "target": numbered(target.fingerprints),
        **method,
        "option": config.stage("scoring"),
        "device": device.partition(":")[0],
        "version": {"prism": __version__, **{name: _version(name) for name in libraries}},
    }


def _version(name: str) -> str:
    return version_of(name)
