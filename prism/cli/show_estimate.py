"""What `prism select --dry-run` prints."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show_estimate(estimate: dict[str, Any]) -> None:
    """What the run will take, by phase and by file."""
    console = Console()
    rows, measured, disk = estimate["rows"], estimate["measured"], estimate["disk_bytes"]
    times = Table("phase", "time", title="the run will take")
    for phase, seconds in estimate["phases"].items():
        times.add_row(phase, _duration(seconds))
    times.add_row("all", _duration(estimate["seconds"]), style="bold")
    console.print(times)
    files = Table("memory and disk", "size")
    files.add_row("peak memory", _size(estimate["peak_memory_mb"] << 20))
    if estimate["device_memory_mb"] is not None:
        files.add_row("peak memory of the device", _size(estimate["device_memory_mb"] << 20))
    for name, size in disk.items():
        files.add_row(name if name in ("free", "total") else f"{name} on disk", _size(size))
    console.print(files)
    console.print(
        f"{rows['good']:,} good rows, {rows['rejected']:,} rejected, {rows['stored']:,} scored already; "
        f"{estimate['pairs']:,} pairs",
        highlight=False,
    )
    console.print(
        f"measured on {measured['rows']:,} rows in {measured['batches']} batches; nothing was kept",
        highlight=False,
    )
    if disk["total"] > disk["free"]:
        console.print("the disk is too small for it", style="bold red")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
