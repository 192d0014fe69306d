"""`prism repair` in both directions: what goes, what stays, what is measured, and that it goes on where it stopped."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from prism.config import SelectConfig
from prism.errors import ConfigError, DataError
from prism.evaluation import EvaluateConfig, evaluate
from prism.experiments.config import RepairConfig
from prism.experiments.drop import choose_drop
from prism.experiments.repair import repair
from prism.experiments.repair_report import remarks
from prism.experiments.steps import Place as Place_
from prism.experiments.steps import for_base
from prism.progress import Silent
from prism.run.select import run_select
from tests.cli.command import refusal
from tests.conftest import Rows
from tests.experiments.conftest import Place, mixture, pairs
from tests.run.test_select import Notes, contents

QUICK = {"epochs": 1, "learning_rate": 1e-3, "full": True, "checkpoints": 0}


def settings(place: Place, **more: Any) -> dict[str, Any]:
    return {
        **place.common,
        "held_out": [str(place.held_out)],
        "out": str(place.folder / "fix"),
        "train": QUICK,
        **more,
    }


def lines(path: str) -> Rows:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_reverse(place: Place) -> None:
    config = settings(place, drop="33%", at="both", retain=[str(place.retain)])
    notes = Notes()
    found = repair(RepairConfig(**config), notes)
    assert list(found["behaviour"]) == ["base", "broken", "repaired, ranked at broken", "repaired, ranked at base"]
    for done in found["repairs"].values():
        kept, dropped = lines(done["kept"]), lines(done["dropped"])
        assert len(dropped) == done["dropped_rows"] == 6
        gone = {row["id"] for row in dropped}
        assert kept == [row for row in mixture() if row["id"] not in gone]
        scores = [row["prism"]["score"] for row in dropped]
        assert scores == sorted(scores, reverse=True)
        bad = [row.get("bad") for row in dropped]
        assert done["labels"]["dropped"] == {
            "harmful": bad.count(True),
            "benign": bad.count(False),
            "unlabelled": 6 - bad.count(True) - bad.count(False),
        }
        assert done["labels"]["recall"] == pytest.approx(bad.count(True) / 7)
    for name, measured in found["behaviour"].items():
        own = json.loads(
            (place.folder / "fix/evaluation" / name.replace(", ", "-").replace(" ", "-") / "figures.json").read_text()
        )
        assert measured["preference"]["value"] == pytest.approx(np.mean(own["result"]["values"]["preference"]))
        assert measured["retain"]["perplexity"]["value"] > 1
    said = found["changes"]["repaired, ranked at broken"]["from broken"]
    before, after = (
        found["behaviour"][name]["preference"]["value"] for name in ("broken", "repaired, ranked at broken")
    )
    assert said["difference"]["value"] == pytest.approx(after - before)
    assert any("held-out pairs" in note for note in notes.notes[:3])  # before anything is trained
    log = (place.folder / "fix" / "run.log").read_text()
    assert [log.count(note) for note in notes.notes if note.startswith(("breaking", "repairing"))] == [1, 2, 2]
    assert "loading" in (place.folder / "fix" / "broken" / "run.log").read_text()
    for base, whole in ((before, True), (before - 0.01, False)):
        behaviour = {**found["behaviour"], "base": {"preference": {"value": base}}}
        said = remarks({**found, "behaviour": behaviour})
        assert any("there is no damage to repair" in remark for remark in said) is whole

    before_files = contents(place.folder / "fix" / "broken"), contents(place.folder / "fix" / "repaired-at-base-33pct")
    again = repair(RepairConfig(**config))
    assert again["behaviour"] == found["behaviour"]
    assert before_files == (
        contents(place.folder / "fix" / "broken"),
        contents(place.folder / "fix" / "repaired-at-base-33pct"),
    )


def test_a_threshold_from_labelled_rows(place: Place, write_jsonl: Callable[[str, Rows], Any]) -> None:
    small = write_jsonl("small.jsonl", [{**row, "id": f"c{row['id']}"} for row in mixture()[7:14]])
    config = settings(place, calibrate=[str(small)], at="base")
    found = repair(RepairConfig(**config))
    (done,) = found["repairs"].values()
    dropped = lines(done["dropped"])
    scored = np.array([row["prism"]["score"] for row in dropped])
    assert done["threshold"] is not None and scored.min() >= done["threshold"]
    assert len(dropped) + len(lines(done["kept"])) == 21
    bare = [{name: value for name, value in row.items() if name != "bad"} for row in mixture()]
    unlabelled = str(write_jsonl("bare.jsonl", bare))
    found = repair(RepairConfig(**{**config, "data": [unlabelled], "out": str(place.folder / "bare")}))
    (same,) = found["repairs"].values()
    assert same["labels"] is None and same["threshold"] == pytest.approx(done["threshold"], rel=1e-5)
    with_own = {**config, "calibrate": config["data"], "out": str(place.folder / "own")}  # some of the data has labels
    (own,) = repair(RepairConfig(**with_own))["repairs"].values()
    assert own["rows"] == 21 and own["threshold"] is not None
    one_kind = write_jsonl("one.jsonl", [row for row in mixture() if row.get("bad")])
    with pytest.raises(DataError, match="7 harmful and 0 benign"):
        repair(RepairConfig(**{**config, "calibrate": [str(one_kind)], "out": str(place.folder / "other")}))


@pytest.mark.parametrize(("method", "apart"), [("prism-ekfac", 0), ("bm25", 0), ("rds+", 4)])  # rds+: places in turn
def test_a_threshold_is_of_the_scale_of_the_scores(
    place: Place, write_jsonl: Callable[[str, Rows], Any], method: str, apart: float
) -> None:
    """Scores by these depend on all rows that are ranked: in one run, rows that say the same score the same."""
    copies = [{**row, "id": f"c{row['id']}"} for row in mixture()[7:14]]
    fields = {**place.common, "out": "x", "calibrate": [str(write_jsonl("small.jsonl", copies))], "method": method}
    config = RepairConfig(**fields)
    run, drop = choose_drop(config, place.folder / "ranking", {"model": config.model}, Silent())
    together = dict(zip(run.selection.scores.ids(range(28)), run.selection.scores.column("score"), strict=True))
    for row in copies:
        assert together[row["id"]] == pytest.approx(together[row["id"].removeprefix("c")], rel=1e-4, abs=apart)
    assert drop.selection.scores.ids(range(21)) == [row["id"] for row in mixture()]
    over = {name for name, score in together.items() if score >= drop.threshold and not name.startswith("c")}
    assert set(drop.selection.ids) == over and 0 < len(over) < 21


def test_forward_picks_what_pulls_the_other_way(place: Place, write_jsonl: Callable[[str, Rows], Any]) -> None:
    pool = write_jsonl("pool.jsonl", mixture())
    more: dict[str, Any] = {"label_column": None, "broken": str(place.model), "drop": None}
    config = settings(place, direction="forward", pool=[str(pool)], budget="5", **more)
    config |= {"data": [], "label_column": None}
    found = repair(RepairConfig(**config))
    (done,) = found["repairs"].values()
    picked = [row["prism"]["id"] for row in lines(done["picked"])]
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(0, 4)]
    own = SelectConfig(
        model=str(place.model), pool=[str(pool)], target=[str(write_jsonl("turned.jsonl", turned))], budget="5",
        out=str(place.folder / "own"),
    )  # fmt: skip
    assert picked == run_select(own).selection.ids
    assert found["behaviour"]["broken"] == found["behaviour"]["base"]  # the broken model was given: it is the base
    assert found["behaviour"]["repaired"]["pairs"] == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"drop": "100%"}, "would drop every row"),
        ({"drop": "0%"}, "is zero: nothing would be dropped"),
        ({"drop": None}, "either --drop"),
        ({"drop": "5%", "calibrate": ["x.jsonl"]}, "either --drop"),
        ({"drop": None, "calibrate": ["x.jsonl"], "label_column": None}, "--label-column"),
        ({"drop": "5%", "data": []}, "needs --data"),
        ({"direction": "forward"}, "needs --pool"),
        ({"direction": "forward", "pool": ["x"], "data": []}, "needs the broken model"),
        ({"direction": "forward", "pool": ["x"], "drop": "5%"}, "belongs to --direction reverse"),
        ({"direction": "forward", "pool": ["x"], "drop": None}, "--label-column belongs to --direction reverse"),
        (
            {"direction": "forward", "pool": ["x"], "drop": None, "label_column": None, "at": "base"},
            "--at base belongs to --direction reverse",
        ),
        ({"drop": "5%", "cap_per_source": 3}, "no option of this command"),
    ],
)
def test_what_contradicts_itself(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RepairConfig(**{"model": "m", "target": ["t"], "data": ["d"], "out": "o", "label_column": "bad", **change})


def test_what_would_fail_after_a_training_fails_before_it(place: Place) -> None:
    for change, reason in (
        ({"label_column": "harmfull"}, "no row has a column 'harmfull'"),
        ({"train": {"trainer": {"optimm": "sgd"}}}, "TRL has no such setting"),
    ):
        with pytest.raises(ConfigError, match=reason):
            repair(RepairConfig(**settings(place, drop="3", **change)))
    assert not (place.folder / "fix" / "broken").exists()
    with pytest.raises(ValidationError, match="seed is set for each run of prism train"):
        RepairConfig(**settings(place, drop="3", train={"seed": 2}))


def test_a_base_is_measured_in_the_precision_of_what_was_trained(place: Place) -> None:
    narrow = place.folder / "bf16"
    network = AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.bfloat16)
    network.save_pretrained(narrow)
    AutoTokenizer.from_pretrained(place.model).save_pretrained(narrow)
    asked = settings(place, drop="3", model=str(narrow))
    found = repair(RepairConfig(**asked))
    read = {p.parent.name: json.loads(p.read_text()) for p in (place.folder / "fix").glob("evaluation/*/evaluate.json")}
    assert {name: one["model"]["dtype"] for name, one in read.items()} == dict.fromkeys(read, "float32")
    wide = evaluate(EvaluateConfig(model=str(narrow), target=asked["held_out"], dtype="float32"))
    (mine,) = wide["targets"].values()
    assert found["behaviour"]["base"]["preference"]["value"] == mine["preference"]["value"]
    config = SelectConfig(model=str(narrow), pool=[str(place.data)], target=[str(place.target)], out="o")
    assert for_base(Place_(str(narrow)), config, {"full": False}).dtype == "auto"  # a LoRA's base stays as it is
    assert for_base(Place_(str(narrow)), config, {}).dtype == "float32"  # so small a model is trained whole


def test_all_rows_would_go(place: Place) -> None:
    with pytest.raises(ConfigError, match="all 21 rows would be dropped"):
        repair(RepairConfig(**settings(place, drop="21 rows")))
    assert not (place.folder / "fix" / "broken").exists()


def test_errors_name_the_option(place: Place) -> None:
    words: list[Any] = ["repair", "--model", place.model, "--data", place.data, "--target", place.target]
    words += ["--out", place.folder / "x", "--broken", place.model, "--drop", "2"]
    assert "train: --epoch: is no option" in refusal(*words, "--train", "epoch=2")
    assert "no row has a column 'evil'" in refusal(*words, "--label-column", "evil")
