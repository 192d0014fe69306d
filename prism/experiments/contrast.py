"""What a comparison's cells say: means over seeds, paired differences, tests. Pure functions of results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prism.experiments.statistics import bootstrap, holm, mean_interval, paired_p

MEASURES = ("preference", "won", "potential", "log_preference", "loss_chosen", "loss_rejected")
LEVEL = 0.05
Result = Mapping[str, Any]


def summarise(results: Sequence[Result], against: Sequence[str]) -> dict[str, Any]:
    """JSON-ready: `methods`, a row per method and budget, and `differences`, one per method, budget and reference."""
    done = [r for r in results if r["status"] == "done"]
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in done:
        groups.setdefault((result["method"], result["budget"]), []).append(result)
    return {
        "methods": [_row(method, budget, cells) for (method, budget), cells in groups.items()],
        "differences": [d for reference in against for d in _differences(groups, reference)],
    }


def _row(method: str, budget: str, cells: Sequence[Result]) -> dict[str, Any]:
    """Means over the seeds with t intervals; of the base, which no seed changes, the values alone."""
    found = {name: mean_interval([cell[name]["value"] for cell in cells]) for name in MEASURES}
    kept = [cell["retain"]["perplexity"]["value"] for cell in cells if cell["retain"]]
    return {
        "method": method,
        "budget": budget,
        "seeds": [cell["seed"] for cell in cells],
        "pairs": cells[0]["pairs"],
        "rows": float(np.mean([cell["rows"] for cell in cells])),
        "response_tokens": float(np.mean([cell["response_tokens"] for cell in cells])),
        **found,
        "retain_perplexity": mean_interval(kept) if kept else None,
        "train_seconds": float(np.mean([cell["seconds"].get("train", 0.0) for cell in cells])),
    }


def _differences(groups: Mapping[tuple[str, str], Sequence[Result]], reference: str) -> list[dict[str, Any]]:
    """Of each method to the reference at the same budget, or to one that has none; p values are adjusted over the
    methods of a budget."""
    found = []
    for budget in dict.fromkeys(budget for _, budget in groups):
        theirs = groups.get((reference, budget)) or groups.get((reference, ""))  # the base, the whole pool
        others = [m for m, b in groups if b == budget and m != reference]
        if theirs is None or not budget:
            continue
        rows = [_difference(m, budget, reference, groups[m, budget], theirs) for m in others]
        for p in ("p_seeds", "p_pairs"):
            adjusted = holm({row["method"]: row[p] for row in rows})
            for row in rows:
                row[f"{p}_holm"] = adjusted[row["method"]]
        for row in rows:
            row["verdict"] = _verdict(row)
        found += rows
    return found


def _difference(
    method: str, budget: str, reference: str, ours: Sequence[Result], theirs: Sequence[Result]
) -> dict[str, Any]:
    """In mean preference: paired by seed (t), and by held-out pair (bootstrap of the pairs, each a mean over seeds)."""
    mine, other = ({cell["seed"]: cell for cell in cells} for cells in (ours, theirs))
    if None in other:  # the base, which no seed changes
        other = dict.fromkeys(mine, other[None])
    seeds = sorted(mine.keys() & other.keys())
    row: dict[str, Any] = {"method": method, "budget": budget, "against": reference, "seeds": seeds}
    if not seeds:
        nothing = dict.fromkeys(("by_seed", "by_pair", "p_seeds", "p_pairs"))
        return {**row, **nothing}
    by_seed = [mine[s]["preference"]["value"] - other[s]["preference"]["value"] for s in seeds]
    by_pair = np.mean([_values(mine[s]) - _values(other[s]) for s in seeds], 0)
    by_pair = by_pair[np.isfinite(by_pair)]
    return {
        **row,
        "by_seed": mean_interval(by_seed),
        "by_pair": bootstrap(len(by_pair), lambda places: float(by_pair[places].mean())),
        "p_seeds": paired_p(by_seed),
        "p_pairs": paired_p(by_pair),
    }


def _values(cell: Result) -> Any:
    return np.array([np.nan if v is None else v for v in cell["values"]["preference"]], np.float64)


def _verdict(row: Mapping[str, Any]) -> str:
    """`better` or `worse` where both tests, adjusted, say so; by one test alone that is said, too."""
    if row["by_seed"] is None:
        return "no seed in common"
    sure = {
        name: p is not None and p <= LEVEL
        for name, p in (("seeds", row["p_seeds_holm"]), ("pairs", row["p_pairs_holm"]))
    }
    way = "better" if row["by_seed"].value > 0 else "worse"
    if all(sure.values()):
        return way
    if any(sure.values()):
        return f"{way} over {next(name for name, ok in sure.items() if ok)} only"
    return "not told apart"
