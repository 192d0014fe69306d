"""`prism compare` end to end: shared scores, cells that fail, a kill in the middle, and what is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from prism.errors import ConfigError
from prism.experiments.compare import compare, compare_all, plan
from prism.experiments.compare_report import notes
from prism.experiments.experiment import Experiment, in_tokens, load_experiment
from prism.experiments.grid import Grid
from prism.experiments.steps import fine_tuned
from tests.cli.command import prism, refusal
from tests.conftest import TEXTS, Rows
from tests.experiments.conftest import Place
from tests.run.test_select import Notes


def write(place: Place, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "model": str(place.model),
        "pool": str(place.data),
        "target": str(place.target),
        "held_out": str(place.held_out),
        "methods": ["random", {"name": "top", "method": "prism"}, "none"],
        "budgets": ["30%"],
        "seeds": 2,
        "train": {"epochs": 1, "full": True, "learning_rate": 0.001, "checkpoints": 0},
        **changes,
    }
    path = place.folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value is not None}))
    return path


def test_a_killed_comparison_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"name": "lost", "method": "prism", "checkpoints": ["nowhere"]}
    file = write(
        place, methods=["random", {"name": "top", "method": "prism"}, broken, {"name": "full", "seeds": [0]}, "none"]
    )
    experiment = load_experiment(file, {"out": str(place.folder / "cmp")})
    trained: list[str] = []

    def counted(base: Any, data: Any, out: Path, *rest: Any, **named: Any) -> Any:
        trained.append(out.parent.name.rpartition("-")[0])
        if len(trained) == 3:
            raise KeyboardInterrupt
        return fine_tuned(base, data, out, *rest, **named)

    monkeypatch.setattr("prism.experiments.cells.fine_tuned", counted)
    with pytest.raises(KeyboardInterrupt):
        compare(experiment)
    assert [cell["done"] for cell in next(plan([experiment]))] == [True, True, *[False] * 6]
    notes = Notes()
    found = compare(experiment, notes)
    assert trained == ["random-30pct-seed0", "random-30pct-seed1", "top-30pct-seed0", "top-30pct-seed0",
                       "top-30pct-seed1", "full-seed0"]  # fmt: skip
    assert (found["cells"], found["failed"]) == (8, 2)
    assert "nowhere" in found["failures"][0]["why"]
    assert "cmp: 8 cells, of which 2 are done" in notes.notes

    folder = place.folder / "cmp"
    assert len(list((folder / "scores").glob("top-*/scores"))) == 1  # shared by both seeds
    assert len(list((folder / "scores").glob("random-*/scores"))) == 2
    assert not list((folder / "cells").glob("*/model"))
    rows = pq.read_table(folder / "cells.parquet").to_pylist()
    assert [row["status"] for row in rows].count("failed") == 2
    assert {row["rows"] for row in rows if row["method"] in ("random", "top")} == {6}
    assert {row["rows"] for row in rows if row["method"] == "full"} == {21}
    mean = {m["method"]: m["preference"]["value"] for m in found["methods"]}
    both = [row["preference"] for row in rows if row["method"] == "top"]
    assert mean["top"] == pytest.approx(sum(both) / 2)
    text = (folder / "compare.md").read_text()
    assert "cells that failed" in text and "## What to know" in text
    for name in ("preference", "differences"):
        assert (folder / f"{name}.png").stat().st_size > 1000 and (folder / f"{name}.svg").exists()

    again = prism("compare", file, "--out", folder, "--json")
    assert again.code == 1  # two cells still fail
    assert json.loads(again.out)["methods"] == found["methods"]
    shown = prism("compare", file, "--out", folder, "--dry-run")
    assert shown.code == 0 and "2 of 8 to do" in shown.out


def test_one_pass_scores_all_methods_that_it_can(place: Place) -> None:
    methods = ["random", "prism", "prism-sharp", {"name": "bad", "method": "prism", "checkpoints": ["nowhere"]},
               {"name": "cosine", "method": "prism-kfac-cosine", "damping": "0.01"}]  # fmt: skip
    experiment = load_experiment(write(place, methods=methods, seeds=[0]), {"out": str(place.folder / "cmp")})
    notes = Notes()
    found = compare(experiment, notes)
    assert found["failed"] == 1 and "nowhere" in found["failures"][0]["why"]
    assert "one pass scores 3 methods: prism, prism-sharp, prism-kfac-cosine" in notes.notes
    assert {name: cost.get("together") for name, cost in found["costs"].items()} == {
        "random": None, "prism": 3, "prism-sharp": 3, "cosine": 3
    }  # fmt: skip
    assert all(found["costs"][name]["tokens"] > 0 for name in ("prism", "prism-sharp", "cosine"))
    text = (place.folder / "cmp" / "compare.md").read_text()
    assert "Prism, prism-sharp, cosine were scored in passes for several methods or targets" in text
    again = Notes()
    assert compare(experiment, again)["costs"] == found["costs"]
    assert not any(note.startswith("one pass") for note in again.notes)


def test_experiments_on_several_targets_share_their_work(
    place: Place, write_jsonl: Callable[[str, Rows], Path]
) -> None:
    pairs: Rows = [
        {"prompt": q, "chosen": "Yes.", "rejected": a, "subtask": "ab"[n % 2]} for n, (q, a) in enumerate(TEXTS)
    ]
    other = write_jsonl("a.jsonl", pairs[:4]), write_jsonl("b.jsonl", pairs[4:])
    targets = {"glib": (place.target, place.held_out), "yes": other}
    common: dict[str, Any] = {
        "methods": ["random", "less", "rose"],
        "seeds": [0],
        "warmup": {"share": "8", "epochs": 1, "checkpoints": 2, "batch": 2},
        "shared": str(place.folder / "shared"),
    }  # fmt: skip
    files = []
    for name, (target, held_out) in targets.items():
        file = write(place, **common, target=str(target), held_out=str(held_out), out=str(place.folder / name))
        files.append(file.rename(place.folder / f"{name}.yaml"))
    alone = compare(load_experiment(files[1], {"out": str(place.folder / "alone"), "shared": None}))
    notes = Notes()
    found = list(compare_all([load_experiment(file, {}) for file in files], notes))
    passes = [note for note in notes.notes if note.startswith("one pass scores")]
    assert passes == ["one pass scores 4 methods: less, rose, less, rose"] * 2
    assert [one["failed"] for one in (alone, *found)] == [0, 0, 0]
    for mine, theirs in zip(found[1]["methods"], alone["methods"], strict=True):
        assert mine["preference"]["value"] == pytest.approx(theirs["preference"]["value"], abs=1e-5)
    cells = [cell for name in targets for cell in (place.folder / name / "cells").glob("*-seed*")]
    assert len(cells) == 6 and not any((cell / "model").exists() for cell in cells)
    assert (
        len(list((place.folder / "shared" / "models").glob("*/train.json"))) == 1
    )  # random rows are the same for both
    assert len(list((place.folder / "shared" / "warmups").glob("*/warmup.json"))) == 1
    assert "/glib/" not in (place.folder / "yes" / "run.log").read_text()
    for cost in (one["costs"][name] for one in found for name in ("less", "rose")):
        assert cost["together"] == 4 and cost["reused_rows"] == 0
    assert "two experiments go to" in refusal("compare", files[0], files[0])
    assert "two experiments go to" in refusal("compare", files[0], files[0], "--dry-run")
    assert "--out is the folder of one experiment" in refusal("compare", *files, "--out", place.folder / "x")
    shown = prism("compare", *files, "--dry-run", "--json")
    listed = [json.loads(line) for line in shown.out.splitlines()]
    assert [{cell["out"] for cell in cells} for cells in listed] == [{one["out"]} for one in found]
    assert all(cell["done"] for cells in listed for cell in cells)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"methods": ["prizm"]}, "methods.0 (prizm): there is no method 'prizm'"),
        ({"methods": ["prism", "prism"]}, "prism is there twice"),
        ({"methods": [{"name": "a b", "method": "prism"}]}, "methods.0.name: 'a b' names files"),
        ({"methods": [{"name": "a", "method": "prism", "curvature": "round"}]}, "methods.0 (a): --curvature"),
        ({"methods": [{"name": "a", "method": "prism", "budgets": ["most"]}]}, "methods.0.budgets"),
        ({"budgets": ["0%"]}, "budgets: budget '0%' is zero"),
        ({"methods": [{"name": "prism", "budgets": []}]}, "methods.0.budgets: the list is empty"),
        ({"seeds": "many"}, "seeds: 'many' is neither"),
        ({"seeds": 0}, "seeds: 0: seeds are"),
        ({"held_out": None}, "held_out: is required"),
        ({"metods": ["prism"]}, "metods: is no key of an experiment"),
        ({"select": {"budgett": 3}}, "--budgett: is no option"),
        ({"train": {"seed": 9}}, "train: seed is set for each run of prism train, and is no option of it here"),
        ({"train": {"lr": 1e-3}}, "train: --lr: is no option"),
        ({"select": {"pool": "other.jsonl"}}, "select: pool is set for each run"),
        ({"evaluate": {"target": "other.jsonl"}}, "evaluate: target is set for each run"),
        ({"warmup": {"epochs": 0}}, "warmup: --epochs"),
        ({"methods": [{"name": "a", "method": "prism", "seed": 1}]}, "methods.0 (a): seed is not a method's own"),
        ({"methods": [{"name": "a", "method": "less", "warmup": {"out": "x"}}]}, "methods.0 (a): out is set for each"),
        ({"budgets": ["5%", 4, "5.0 %"]}, "budgets: '5%' is there twice"),
        ({"budgets": ["5% tok", "5%", "5.0% tok"]}, "budgets: '5% tok' is there twice"),
        ({"seeds": [0, 1, 0]}, "seeds: [0, 1, 0]: 0 is there twice"),
        ({"methods": [{"name": "none", "curvature": "ekfac"}]}, "methods.0 (none): curvature means nothing here"),
        ({"methods": [{"name": "full", "budgets": ["5%"]}]}, "methods.0 (full): budgets means nothing here"),
        ({"methods": [{"name": "none", "seeds": [1]}]}, "methods.0 (none): seeds means nothing here"),
        ({"against": ["random", "lesss"]}, "against: there is no method 'lesss'"),
    ],
)
def test_malformed_files_are_refused_by_key(place: Place, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_experiment(write(place, **change), {})
    assert reason in str(error.value)


def test_options_go_by_either_name_and_trl_s_are_checked_before_the_run(place: Place) -> None:
    changes = {"train": {"learning-rate": 1e-3, "trainer": {"weight_decy": 0.1}}}
    named = load_experiment(write(place, **changes), {"out": str(place.folder / "out")})
    assert named.train["learning_rate"] == 1e-3
    for run in (lambda: list(plan([named])), lambda: compare(named)):
        with pytest.raises(ConfigError, match=r"--trainer weight_decy: TRL has no such setting \(is it weight_decay"):
            run()
    assert not (place.folder / "out" / "scores").exists()


def test_what_is_measured_twice_is_said(place: Place) -> None:
    changes = {"methods": ["none"], "held_out": [str(place.target)], "retain": [str(place.data)]}
    found = compare(load_experiment(write(place, **changes), {"out": str(place.folder / "out")}))
    overlap = found["overlap"]
    assert overlap["target"]["exact"] == 4 and overlap["retain"]["exact"] == 21
    assert [n for n in notes(found) if "the target holds 4 exactly" in n or "retain rows the data holds 21" in n] == (
        overlap["notices"][1:]
    )


def test_the_documented_experiment_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    fields = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    experiment = Experiment.model_validate({**fields, "out": "x"})
    assert [method.name for method in experiment.methods][-2:] == ["none", "full"]


def test_what_is_no_experiment(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("- a\n- b")
    assert "must be a mapping" in refusal("compare", file)
    file.write_text("a: [")
    assert "can't be read" in refusal("compare", file)
    assert "can't be read" in refusal("compare", tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("change", [{"quantize": "4bit"}, {"max_length": 9}, {"on_bad_row": "stop"}])
def test_cells_depend_on_what_trainings_are_told(place: Place, change: dict[str, Any]) -> None:
    def folders(select: dict[str, Any]) -> list[Path]:
        methods = ["none", "full", "longest"]
        grid = Grid(load_experiment(write(place, methods=methods, select=select), {}), place.folder)
        return [grid.cell_folder(cell) for cell in grid.cells()]

    assert not set(folders({})) & set(folders(change))
    assert folders({})[:3] == folders({"device": "cpu", "batch_tokens": 99})[:3]  # none and full


@pytest.mark.parametrize("option", ["preference_from", "checkpoints", "curvature_from", "adapter", "model"])
def test_scores_depend_on_what_a_method_names(place: Place, option: str) -> None:
    other = place.folder / "other"
    shutil.copytree(place.model, other)
    save_file({"x": torch.zeros(1)}, other / "optimizer.safetensors")

    def method(named: str) -> dict[str, Any]:
        return {"name": "w", "method": "prism", option: [named] if option == "checkpoints" else named}

    def folder() -> Path:
        grid = Grid(load_experiment(write(place, methods=[method(str(other))]), {}), place.folder / "cmp")
        return grid.scores_folder(grid.experiment.methods[0], 0)

    if option in ("adapter", "model"):
        _goes_on_without(place, method("nowhere/there"))
        return
    before = folder()
    changed = other / ("optimizer.safetensors" if option == "curvature_from" else "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in load_file(changed).items()}, changed, {"format": "pt"})
    assert folder() != before
    _goes_on_without(place, method("nowhere"))


def _goes_on_without(place: Place, missing: dict[str, Any]) -> None:
    found = compare(load_experiment(write(place, methods=[missing, "none"]), {"out": str(place.folder / "cmp")}))
    assert (found["cells"], found["failed"]) == (3, 2) and "nowhere" in found["failures"][0]["why"]


def test_what_fails_for_all_is_tried_once_and_a_budget_fails_alone(place: Place) -> None:
    common: dict[str, Any] = {
        "methods": ["random", {"name": "top", "method": "prism", "budgets": ["30%", "99"]}],
        "seeds": [0],
        "train": {"epochs": 3, "full": True, "learning_rate": 1e30, "checkpoints": 0, "batch": 2},
        "shared": str(place.folder / "shared"),
    }
    experiments = [
        load_experiment(write(place, **common, target=str(target)), {"out": str(place.folder / target.stem)})
        for target in (place.target, place.held_out)
    ]
    notes = Notes()
    first, second = compare_all(experiments, notes)
    why = {one["cell"]: one["why"] for one in second["failures"]}
    assert first["failed"] == second["failed"] == 3
    assert "99" in why["top, 99, seed 0"] and "21" in why["top, 99, seed 0"]
    assert "diverge" in why["top, 30%, seed 0"] and why["random, 30%, seed 0"] == first["failures"][0]["why"]
    trainings = [note for note in notes.notes if "samples per step" in note]
    assert len(trainings) == 3  # random's for both


def test_shares_of_the_tokens() -> None:
    assert in_tokens("5% tok", 1000) == "50 tok"
    assert in_tokens("0.01% tokens", 100) == "1 tok"
    assert in_tokens("5%", 1000) == "5%"
