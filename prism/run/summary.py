"""What a run says of itself at its end: the same figures for `summary.json`, `--json` and the printed tables."""

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from prism.config import SelectConfig
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.run.clock import Clock
from prism.scoring import ScoreTable, quantiles
from prism.selection import Selection
from prism.target import MeasuredTarget


def summarise(config: SelectConfig, target: MeasuredTarget, selection: Selection, clock: Clock) -> dict[str, Any]:
    """JSON-ready figures; losses in nats per token, the gain in K per unit of learning rate where it is foretold."""
    scores = selection.scores
    gain, random_gain = selection.gain() if _gains(config) else (None, None)
    tokens = scores.column("response_tokens")
    pi = target.table.column("preference").to_numpy()
    return {
        "out": config.out,
        "rows": {
            "read": scores.details["read"],
            "good": scores.details["good"],
            "rejected": scores.details["read"] - len(scores),
            "scored": len(scores),
            "truncated": int(scores.flagged("truncated").sum()),
            "non_finite": int(scores.flagged("non-finite").sum()),
            "too_long": int(scores.flagged("too-long").sum()),
            "reused": scores.details["reused"],
        },
        "target": {
            "pairs": target.table.num_rows,
            "rejected": len(target.rejected),
            "preference": quantiles(pi),
            "most_preferred": _pairs(target, "descending"),
            "least_preferred": _pairs(target, "ascending"),
        },
        "score": quantiles(scores.column("score")),
        "selection": {
            "rows": len(selection),
            "response_tokens": int(tokens[selection.places].sum(dtype=np.int64)),
            "order": config.order,
            "budget": config.budget,
            **selection.details,
            "sources": selection.sources(),
            "gain": gain,
            "random_gain": random_gain,
            "notices": list(selection.notices),
        },
        "method": config.method,
        "cost": scores.details.get("cost"),
        "engine": scores.details["engine"],
        "engine_error": scores.details["error"],
        "seconds": round(clock.total, 2),
        "phases": {name: round(seconds, 2) for name, seconds in clock.phases.items()},
        "peak_memory_mb": peak_memory_mb(),
    }


def _gains(config: SelectConfig) -> bool:
    """Whether a score is what one step of descent on the row adds to K, to first order: <g_z, g_KL> as it stands."""
    method = find_method(config.method)
    if not isinstance(method, Recipe) or config.preference_from is not None:
        return False
    return method.plain and (method.target, method.weight, config.curvature or method.curvature) == (
        "pair",
        "prism",
        "identity",
    )


def notices(target: MeasuredTarget, scores: ScoreTable) -> list[str]:
    """What went through, but is worth a look."""
    contents = np.sort(scores.column("content"))
    truncated, copies = int(scores.flagged("truncated").sum()), int((contents[1:] == contents[:-1]).sum())
    rejected = scores.details["read"] - len(scores) + len(target.rejected)
    broken, long = (np.flatnonzero(scores.flagged(flag)) for flag in ("non-finite", "too-long"))
    flags, pairs = (target.table.column(name).to_pylist() for name in ("flag", "id"))
    long_pairs = [pair for pair, flag in zip(pairs, flags, strict=True) if flag == "too-long"]
    cut = flags.count("truncated")
    found = {
        f"rows set aside as bad: {rejected} (rejected.jsonl says why)": rejected,
        f"rows truncated: {truncated} of the pool, {cut} of the target": truncated + cut,
        f"rows that say the same as another: {copies}": copies,
        f"rows without a finite score, which are never selected: {len(broken)}, such as {scores.ids(broken[:1])}": len(
            broken
        ),
        f"rows too long for the memory, which are never selected: {_some(scores.ids(long))}": len(long),
        f"pairs too long for the memory, which are left out of the direction: {_some(long_pairs)}": len(long_pairs),
        "the pool has a single row": len(scores) == 1,
        "the target has a single pair": target.table.num_rows == 1,
    }
    return [text for text, applies in found.items() if applies]


def _some(ids: list[str], count: int = 5) -> str:
    """How many ids, and the first of them."""
    return f"{len(ids)}: {', '.join(ids[:count])}{', …' * (len(ids) > count)}"


def _pairs(target: MeasuredTarget, order: str, count: int = 3) -> list[dict[str, Any]]:
    finite = target.table.filter(pc.is_finite(target.table.column("preference")))
    ranked = finite.sort_by([("preference", order), ("id", "ascending")]).slice(0, count)
    return [{k: row[k] for k in ("id", "preference", "prompt")} for row in ranked.to_pylist()]


def peak_memory_mb() -> int:
    """Peak resident memory of this process, in MiB (macOS counts it in bytes, Linux in KiB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def resident_memory_mb() -> int:
    """Resident memory of this process as it is, in MiB; its peak where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
    except OSError:
        return peak_memory_mb()
