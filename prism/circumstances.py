"""What is worth knowing about how and where something was made."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def circumstances(seed: int) -> dict[str, Any]:
    """Worth knowing about a run, though its results do not depend on it."""
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
    here = Path(__file__).resolve().parents[1]
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


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs, by name: `option dtype: float32 → bfloat16`, `pool file a.jsonl`."""
    found: list[str] = []
    for name in [*old, *(n for n in new if n not in old)]:
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{name} ")
        elif _is_digest(before) and _is_digest(after):
            found.append(f"the contents of {prefix}{name}")
        elif _is_digest(before) or _is_digest(after):
            found.append(f"{prefix}{name} ({'added' if before is None else 'gone'})")
        else:
            found.append(f"{prefix}{name}: {before} → {after}")
    return found


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64
