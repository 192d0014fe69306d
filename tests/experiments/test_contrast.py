"""Means, paired differences and verdicts against figures worked out by hand and by scipy."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from prism.experiments.contrast import MEASURES, summarise
from prism.experiments.statistics import plain


def cell(method: str, seed: int | None, values: list[float], budget: str = "5%") -> dict[str, Any]:
    mean = {"value": float(np.mean(values)), "low": None, "high": None}
    return {
        "method": method,
        "budget": budget,
        "seed": seed,
        "status": "done",
        "rows": 10,
        "response_tokens": 100,
        "pairs": len(values),
        **dict.fromkeys(MEASURES, mean),
        "retain": None,
        "seconds": {"train": 2.0},
        "values": {"id": [f"p{i}" for i in range(len(values))], "preference": values},
    }


def test_differences_pair_seeds_and_pairs() -> None:
    rng = np.random.default_rng(0)
    random = {s: rng.random(12) for s in range(4)}
    better = {s: random[s] + 0.2 + 0.02 * rng.normal(size=12) for s in range(1, 4)}  # seed 0 is missing
    cells = [cell("random", s, v.tolist()) for s, v in random.items()]
    cells += [cell("prism", s, v.tolist()) for s, v in better.items()]
    found = summarise([*cells, cell("none", None, [0.5] * 12, "")], ["random", "less"])
    (row,) = found["differences"]
    by_seed = [better[s].mean() - random[s].mean() for s in (1, 2, 3)]
    by_pair = np.mean([better[s] - random[s] for s in (1, 2, 3)], 0)
    assert row["seeds"] == [1, 2, 3]
    assert row["by_seed"].value == pytest.approx(np.mean(by_seed))
    assert (row["by_seed"].low, row["by_seed"].high) == pytest.approx(
        stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
    )
    assert row["p_seeds"] == row["p_seeds_holm"] == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)
    assert row["p_pairs"] == pytest.approx(stats.ttest_1samp(by_pair, 0).pvalue)
    assert row["by_pair"].low < row["by_pair"].value < row["by_pair"].high
    assert row["verdict"] == "better"
    none = next(m for m in found["methods"] if m["method"] == "none")
    assert plain(none["preference"]) == {"value": 0.5, "low": None, "high": None}


def test_against_what_has_no_budget() -> None:
    """The base, which no seed changes, and the whole pool, which has some of the seeds."""
    rng = np.random.default_rng(2)
    ours = {s: rng.random(9) for s in range(3)}
    base, whole = rng.random(9), rng.random(9)
    cells = [cell("prism", s, v.tolist(), budget) for s, v in ours.items() for budget in ("5%", "10%")]
    cells += [cell("none", None, base.tolist(), ""), cell("full", 0, whole.tolist(), "")]
    rows = summarise(cells, ["none", "full"])["differences"]
    assert [(r["budget"], r["against"], r["seeds"]) for r in rows] == [
        *((b, "none", [0, 1, 2]) for b in ("5%", "10%")),
        *((b, "full", [0]) for b in ("5%", "10%")),
    ]
    by_seed = [ours[s].mean() - base.mean() for s in range(3)]
    assert rows[0]["p_seeds"] == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)
    assert rows[2]["by_seed"].value == pytest.approx(ours[0].mean() - whole.mean()) and rows[2]["p_seeds"] is None


def test_holm_counts_the_methods_of_one_budget() -> None:
    rng = np.random.default_rng(1)
    cells = []
    for budget, names in (("5%", "abc"), ("10%", "a")):
        for seed in range(3):
            cells.append(cell("random", seed, rng.random(8).tolist(), budget))
            cells += [cell(name, seed, rng.random(8).tolist(), budget) for name in names]
    rows = summarise(cells, ["random"])["differences"]
    assert [(r["budget"], r["method"]) for r in rows] == [("5%", "a"), ("5%", "b"), ("5%", "c"), ("10%", "a")]
    smallest = min((r for r in rows if r["budget"] == "5%"), key=lambda r: r["p_pairs"])
    assert smallest["p_pairs_holm"] == pytest.approx(min(1, 3 * smallest["p_pairs"]))
    assert rows[3]["p_pairs_holm"] == rows[3]["p_pairs"]


def test_a_single_seed_says_little() -> None:
    cells = [cell("random", 0, [0.1, 0.2, 0.3]), cell("prism", 0, [0.6, 0.8, 0.9])]
    (row,) = summarise(cells, ["random"])["differences"]
    assert row["p_seeds"] is None
    assert row["verdict"] == "better over pairs only"


def test_failed_cells_and_strangers_do_not_count() -> None:
    failed = {"method": "less", "budget": "5%", "seed": 0, "status": "failed", "why": "no checkpoints"}
    cells = [cell("random", 0, [0.1, 0.2]), cell("prism", 1, [0.6, 0.8]), failed]
    found = summarise(cells, ["random", "less"])
    assert [m["method"] for m in found["methods"]] == ["random", "prism"]
    (row,) = found["differences"]
    assert row["verdict"] == "no seed in common" and row["by_seed"] is None
