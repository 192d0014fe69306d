"""`prism audit` on the command line: what it ranks, and how it explains it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prism.experiments.audit import audit, markdown
from prism.experiments.config import AuditConfig
from prism.scoring.matrix import pair_directions
from tests.cli.command import prism, refusal
from tests.experiments.conftest import Place
from tests.run.test_select import contents


def run(place: Place, **more: Any) -> dict[str, Any]:
    return audit(AuditConfig(**{**place.common, "out": str(place.folder / "audit"), "rows": 4, **more}))


def test_parts_add_up_to_the_scores(place: Place) -> None:
    before = contents(place.model), place.data.read_bytes(), place.target.read_bytes()
    found = run(place, pairs=9, tokens=99)
    assert before == (contents(place.model), place.data.read_bytes(), place.target.read_bytes())
    ranked = [row["score"] for row in found["worst"]]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) == 4
    for row in found["worst"]:
        assert sum(pair["contribution"] for pair in row["pairs"]) == pytest.approx(row["score"], rel=1e-3)
        assert sum(token["contribution"] for token in row["tokens"]) == pytest.approx(row["score"], rel=1e-3)
        for part in ("pairs", "tokens"):
            values = [p["contribution"] for p in row[part]]
            assert values == sorted(values, reverse=True)
    assert found["labels"]["rows"] == {"harmful": 7, "benign": 12, "unlabelled": 2, "unscored": 0}
    assert {"audit.json", "audit.md", "ranking"} <= {path.name for path in (place.folder / "audit").iterdir()}
    assert json.loads((place.folder / "audit" / "audit.json").read_text()) == found


def test_a_second_time_from_the_stored_scores_and_more_rows_than_there_are(place: Place) -> None:
    first = run(place, rows=2)
    again = run(place, rows=500)
    assert [row["id"] for row in again["worst"]][:2] == [row["id"] for row in first["worst"]]
    assert [row["score"] for row in again["worst"]][:2] == [row["score"] for row in first["worst"]]
    assert len(again["worst"]) == 21
    assert json.loads((place.folder / "audit/ranking/summary.json").read_text())["rows"]["reused"] == 21


def test_the_command(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    words: list[str | Path] = [
        "--model",
        place.model,
        "--data",
        place.data,
        "--target",
        place.target,
        "--out",
        place.folder / "a",
    ]
    shown = prism("audit", *words, "--label-column", "bad", "--rows", "3")
    assert shown.code == 0, shown.err
    assert "against the labels" in shown.out and "the 3 rows of 21 that pull hardest" in shown.out
    assert json.loads(prism("audit", *words, "--json").out)["rows"] == 21
    assert json.loads(prism("audit", *words[:-2], "--json").out)["out"] == str(place.folder / "runs" / "audit")
    said = refusal("audit", *words, "--label-column", "evil")
    assert "no row has a column 'evil'; the first row has id, prompt, completion, bad" in said
    assert "name a new --out" in refusal("audit", *words[:-1], place.folder)
    assert "No such option" in prism("audit", *words, "--budget", "5%").err


def test_hidden_options_are_refused_in_a_file(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text("budget: 5%\n")
    words: list[str | Path] = [
        "--model",
        place.model,
        "--data",
        place.data,
        "--target",
        place.target,
        "--out",
        tmp_path / "a",
    ]
    assert "budget is no option of this command" in refusal("audit", "--config", file, *words)


def test_scores_that_are_no_sums_are_not_explained(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(*args: Any) -> Any:
        found = pair_directions(*args)
        return replace(found, sizes=2 * found.sizes)

    monkeypatch.setattr("prism.run.pulls.pair_directions", doubled)
    found = run(place)
    assert all(row["tokens"] and not row["pairs"] for row in found["worst"])
    assert "no sums over target pairs" in found["explained"]
    found["worst"][0]["response"] = "a | b\n<script> [x](y)"
    assert "a \\| b &lt;script\\> \\[x\\](y)" in markdown(found)
