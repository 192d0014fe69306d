"""What a run depends on, and on what it ran."""

from pathlib import Path
from typing import Any

from prism import __version__
from prism.circumstances import circumstances, numbered, version_of
from prism.config import SelectConfig
from prism.data import Pool, Target
from prism.errors import RunError
from prism.model import Places
from prism.model.fingerprint import files_fingerprint

__all__ = ["LIBRARIES", "MACHINE", "circumstances", "identity", "numbered"]

MACHINE = ("device", "version")
FITS = ("curvature.json", "optimizer*")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft")


def identity(
    config: SelectConfig, places: Places, pool: Pool, target: Target, device: str, method: dict[str, Any]
) -> dict[str, Any]:
    """All that the scores are a function of: a run folder refuses to go on when any of it has changed.

    Scores that are finished stay what they are when only the `MACHINE` changes.
    """
    curvature = {} if config.curvature_from is None else {"curvature": fit_fingerprint(Path(config.curvature_from))}
    libraries = LIBRARIES if config.quantize is None else (*LIBRARIES, "bitsandbytes")
    return {
        **places.fingerprints(),
        **curvature,
        "pool": numbered(pool.fingerprints),
        "target": numbered(target.fingerprints),
        **method,
        "option": config.stage("scoring"),
        "device": device.partition(":")[0],
        "version": {"prism": __version__, **{name: _version(name) for name in libraries}},
    }


def fit_fingerprint(place: Path) -> str:
    """Of a fitted curvature, or of an optimizer's state.

    Raises:
        RunError: there is none.
    """
    if place.is_file():
        return files_fingerprint(place.parent, (place.name,))
    folder = next((f for f in (place / "curvature", place) if f.is_dir()), None)
    if folder is None or not any(any(folder.glob(pattern)) for pattern in FITS):
        raise RunError(f"--curvature-from {place} holds neither a fitted curvature nor an optimizer's state")
    return files_fingerprint(folder, FITS)


def _version(name: str) -> str:
    return version_of(name)
