"""Figures of a comparison, as PNG and SVG."""

import io
from pathlib import Path
from typing import Any

from prism.errors import ConfigError
from prism.files import write_whole


def draw(found: dict[str, Any], folder: Path) -> list[str]:
    """`preference`: each method's mean by budget; `differences`: to each reference. Returns the names drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise ConfigError("figures need matplotlib: pip install 'prism-select[report]'") from error
    matplotlib.rcParams["svg.hashsalt"] = "prism"
    drawn = []
    budgets = list(dict.fromkeys(m["budget"] for m in found["methods"] if m["budget"]))
    if budgets:
        height = 1 + 0.3 * max(sum(m["budget"] == b for m in found["methods"]) for b in budgets)
        figure, axes = pyplot.subplots(
            1, len(budgets), figsize=(1.5 + 4 * len(budgets), height), sharex=True, squeeze=False
        )
        for axis, budget in zip(axes[0], budgets, strict=True):
            rows = [m for m in found["methods"] if m["budget"] == budget]
            _dots(axis, [m["method"] for m in rows], [m["preference"] for m in rows])
            for m in found["methods"]:
                if not m["budget"]:
                    style = ":" if m["method"] == "none" else "--"
                    axis.axvline(m["preference"]["value"], linestyle=style, color="grey", label=m["method"])
            axis.set(title=budget, xlabel="mean preference on held-out pairs")
        if any(not m["budget"] for m in found["methods"]):
            axes[0][-1].legend(frameon=False, fontsize="small")
        drawn.append(_save(figure, folder, "preference"))
    if found["differences"]:
        groups = list(dict.fromkeys((d["budget"], d["against"]) for d in found["differences"]))
        tall = max(sum((d["budget"], d["against"]) == g for d in found["differences"]) for g in groups)
        figure, axes = pyplot.subplots(
            1, len(groups), figsize=(1.5 + 3.5 * len(groups), 1 + 0.3 * tall), sharex=True, squeeze=False
        )
        for axis, group in zip(axes[0], groups, strict=True):
            rows = [d for d in found["differences"] if (d["budget"], d["against"]) == group and d["by_pair"]]
            _dots(axis, [d["method"] for d in rows], [d["by_pair"] for d in rows])
            axis.axvline(0, color="grey", linewidth=0.8)
            axis.set(title=f"{group[0]}, against {group[1]}", xlabel="difference, by pair")
        drawn.append(_save(figure, folder, "differences"))
    pyplot.close("all")
    return drawn


def _dots(axis: Any, names: list[str], intervals: list[dict[str, Any]]) -> None:
    order = sorted(range(len(names)), key=lambda i: intervals[i]["value"])
    for place, i in enumerate(order):
        found = intervals[i]
        if found["low"] is not None:
            axis.plot([found["low"], found["high"]], [place, place], color="tab:blue", linewidth=1)
        axis.plot(found["value"], place, "o", color="tab:blue", markersize=4)
    axis.set_ylim(-0.5, max(len(names), 1) - 0.5)
    axis.set_yticks(range(len(names)), [names[i] for i in order])


def _save(figure: Any, folder: Path, name: str) -> str:
    figure.tight_layout()
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        write_whole(folder / f"{name}.{kind}", buffer.getvalue())
    return name
