"""A cascade is its two methods, one after the other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism.config import load_config
from prism.errors import ConfigError, RunError
from prism.run.cascade import Cascade, lost, run_cascade
from prism.run.cascade_config import CascadeConfig
from prism.run.select import run_select
from prism.selection import select
from tests.cli.command import prism
from tests.conftest import Rows
from tests.run.test_select import Notes
from tests.selection.tables import make_rows, make_scores


@pytest.fixture
def given(
    tmp_path: Path, model_folder: Path, pool_rows: Rows, pair_rows: Rows, write_jsonl: Callable[[str, Rows], Path]
) -> dict[str, Any]:
    """Two pool files whose names are their rows' sources, and a bad row."""
    first = write_jsonl("web.jsonl", [*pool_rows[:3], {"no": "row"}, pool_rows[3]])
    more: Rows = [
        {"prompt": f"Count to {n}.", "completion": " ".join(map(str, range(n))), "id": n} for n in range(2, 9)
    ]
    places = [str(first), str(write_jsonl("book.jsonl", [*pool_rows[4:], *more]))]
    pairs = write_jsonl("pairs.jsonl", pair_rows)
    return {
        "model": str(model_folder), "pool": places, "target": str(pairs), "out": str(tmp_path / "cascade"),
        "first": "longest", "keep": "50%", "budget": "20%", "dtype": "float64",
    }  # fmt: skip


def cascade(given: dict[str, Any], notes: Notes | None = None, **options: Any) -> Cascade:
    return run_cascade(load_config(None, {**given, **options}, CascadeConfig), notes)


def test_it_is_the_second_method_on_what_the_first_keeps(given: dict[str, Any]) -> None:
    made = cascade(given, compare_full=True)
    assert made.full is not None
    table = made.full.selection.scores
    ids = table.table.column("id").to_pylist()
    scored = dict(zip(ids, table.column("score").tolist(), strict=True))
    lengths = dict(zip(ids, table.column("response_tokens").tolist(), strict=True))
    kept = sorted(ids, key=lambda name: (-lengths[name], name))[:7]
    assert sorted(made.first.selection.ids) == sorted(kept)
    best = sorted(kept, key=lambda name: -scored[name])[:2]
    assert made.second.selection.ids == best, "20 % of the whole pool of 14 rows"
    lines = [json.loads(line) for line in (made.folder / "selected.jsonl").read_text().splitlines()]
    assert [line["prism"]["id"] for line in lines] == best and all("previous" not in line["prism"] for line in lines)
    sources = dict(zip(ids, table.column("source").tolist(), strict=True))
    own = made.second.selection.scores
    for name, source in zip(own.table.column("id").to_pylist(), own.column("source").tolist(), strict=True):
        assert source == sources[name]
    full = made.full.selection.ids
    loss = made.summary["loss"]
    assert loss["overlap"] == len(set(full) & set(best)) / len(full)
    assert loss["survived"] == len(set(full) & set(kept)) / len(full)
    assert loss["score"] == pytest.approx(sum(scored[n] for n in best) / sum(scored[n] for n in full))
    json.dumps(made.summary, allow_nan=False)


def test_it_goes_on_where_it_stopped(given: dict[str, Any]) -> None:
    made = cascade(given)
    first = (made.folder / "selected.jsonl").read_bytes()
    notes = Notes()
    again = cascade(given, notes)
    assert (again.folder / "selected.jsonl").read_bytes() == first
    assert sum("reused the scores" in note for note in notes.notes) == 2
    assert again.summary["stages"] == made.summary["stages"], "with the seconds that the scores took"


def test_another_share_is_refused_by_name(given: dict[str, Any]) -> None:
    made = cascade(given)
    chosen = (made.folder / "selected.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"second ranks other rows than the first method keeps now: --first, --keep"):
        cascade(given, keep="80%")
    assert (made.folder / "selected.jsonl").read_bytes() == chosen
    assert cascade(given).second.selection.ids == made.second.selection.ids


def test_the_budget_chooses_as_on_a_run_of_its_own(given: dict[str, Any]) -> None:
    """With everything kept, the cascade is the full run."""
    made = cascade(given, keep="100%", quota=["web=1.."])
    options = {n: v for n, v in given.items() if n not in ("first", "keep")}
    plain = run_select(load_config(None, {**options, "out": given["out"] + "-full", "quota": ["web=1.."]}))
    assert made.second.selection.ids == plain.selection.ids
    assert "full" not in made.summary["stages"] and made.summary["loss"] is None


def test_what_is_lost() -> None:
    rows = make_rows("abcd")
    full = select(make_scores(rows, [4.0, 3, 2, 1]), budget=2)
    first, second = (
        select(make_scores(rows, [0.0, 9, 8, 7]), budget=3),
        select(make_scores(rows, [0, 3.0, 2, 1]), budget=2),
    )
    assert lost(first, second, full) == {"overlap": 0.5, "survived": 0.5, "score": 5 / 7, "random": 5 / 7}
    assert np.isfinite(list(lost(first, full, full).values())).all()  # type: ignore[arg-type]


def test_a_share_of_a_loss_is_not_told() -> None:
    rows = make_rows("abcd")
    full = select(make_scores(rows, [-4.0, -3, -2, -1]), budget=2)
    second = select(make_scores(rows, [4.0, 3, 2, 1]), budget=2)
    assert lost(full, second, full)["score"] is None and lost(full, second, full)["random"] is None
    lowest = select(make_scores(rows, [-4.0, -3, -2, -1]), budget=2, order="bottom")
    assert lost(lowest, full, lowest, "bottom")["score"] == pytest.approx(3 / 7)


def test_the_second_method_is_checked_before_the_first_runs(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="give --checkpoints"):
        cascade(given, method="less")
    assert not (Path(given["out"]) / "first").exists()


def test_options_go_to_the_method_that_takes_them(given: dict[str, Any]) -> None:
    made = cascade(given, first="dsir", ngrams=1, pair_scores=True, strategy="coverage")
    assert not (made.folder / "first" / "pairs.parquet").exists()
    assert made.second.summary["selection"]["strategy"] == "coverage"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"first": "prism"}, "both prism"),
        ({"first": "guess"}, "guess"),
        ({"keep": "20%", "budget": "20%"}, "is not below --keep"),
        ({"keep": "lots"}, "--keep: keep 'lots' is not a share"),
        ({"dry_run": True}, "has no dry run"),
        ({"keep": "2", "budget": "50%"}, "--budget asks for 7 rows, but longest kept 2"),
        ({"ngrams": 3}, "--ngrams is for the method dsir"),
    ],
)
def test_what_is_refused(given: dict[str, Any], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        cascade(given, **options)


def test_the_command(given: dict[str, Any]) -> None:
    pool = [w for place in given["pool"] for w in ("--pool", place)]
    named = [w for n, v in given.items() if n != "pool" for w in (f"--{n}", v)]
    done = prism("cascade", *pool, *named, "--compare-full")
    assert done.code == 0, done
    assert "of the full selection the cascade has" in done.out and "second" in done.out
