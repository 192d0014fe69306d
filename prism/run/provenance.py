"""What a run depends on, and on what it ran."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prism import __version__
from prism.config import SelectConfig
from prism.data import Pool, Target
from prism.model import Places

MACHINE = ("device", "version")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft")


def identity(config: SelectConfig, places: Places, pool: Pool, target: Target, device: str) -> dict[str, Any]:
    """All that the scores are a function of: a run folder refuses to go on when any of it has changed.

    Scores that are finished stay what they are when only the `MACHINE` changes.
    """
    return {
        **places.fingerprints(),
        "pool": numbered(pool.fingerprints),
        "target": numbered(target.fingerprints),
        "option": config.stage("scoring"),
        "device": device.partition(":")[0],
        "version": {"prism": __version__, **{name: _version(name) for name in LIBRARIES}},
    }


def circumstances(seed: int) -> dict[str, Any]:
    """Worth knowing about a run, though the scores do not depend on it."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": seed,
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def git_revision() -> str | None:
    """Revision of the checkout that prism runs from; None where it was installed from a package."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def numbered(fingerprints: dict[str, str]) -> dict[str, str]:
    """Files by place and name: a run may move with its data, but not change their order."""
    return {f"file {i} ({Path(name).name})": digest for i, (name, digest) in enumerate(fingerprints.items(), 1)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
