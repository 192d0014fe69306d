"""Memory of this process and of the machine; the standard library alone."""

import contextlib
import ctypes
import resource
from pathlib import Path

STATUS, CLEAR, MEMORY = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


def resident(peak: bool = False) -> float:
    """MiB in memory now, or at the most so far; off Linux always the latter.

    Not `ru_maxrss` where there is better: a process inherits that from the one that started it.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    key = "VmHWM" if peak else "VmRSS"
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def forget_peak() -> bool:
    """The peak is measured from here on; false where the system has no way to do that."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
        return True
    return False


def give_back() -> None:
    """Freed memory goes back to the system, where the C library knows how; otherwise it would count as resident."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available() -> float:
    """Bytes that can still be taken; endless where the system doesn't say."""
    if not MEMORY.exists():
        return float("inf")
    (line,) = (line for line in MEMORY.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024
