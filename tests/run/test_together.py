"""One pass for several methods: each run must be what it is alone."""

import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from prism.config import SelectConfig
from prism.errors import DataError
from prism.run.recipes import measured_at
from prism.run.select import Run, run_select
from prism.run.together import score_together, together
from prism.scoring import SHARD_ROWS
from prism.training.warmup import warmup
from prism.training.warmup_config import WarmupConfig
from tests.conftest import TEXTS, Rows
from tests.run.test_select import Notes, flip

METHODS: dict[str, dict[str, Any]] = {
    "prism": {},
    "sharp": {"method": "prism-sharp", "gradient_norms": True},
    "chosen": {"method": "chosen"},
    "ekfac": {"method": "prism-ekfac"},
    "if-guide": {"method": "if-guide"},
    "damped": {"method": "prism", "curvature": "diagonal", "damping": "0.01"},
    "cosine": {"method": "prism-kfac-cosine"},
    "mean": {"method": "prism-mean"},
}


@pytest.fixture
def many(config: SelectConfig, write_jsonl: Callable[[str, Rows], Path]) -> SelectConfig:
    """Two shards of real texts, with a line that is no row and a row that can't be used."""
    rows: Rows = [
        {"id": str(n), "prompt": f"{TEXTS[n % 7][0]} ({n})", "completion": f"{TEXTS[n // 7 % 7][1]} {n % 13}"}
        for n in range(SHARD_ROWS + 20)
    ]
    rows[3]["completion"] = ""
    file = write_jsonl("many.jsonl", rows)
    with file.open("a") as more:
        more.write("broken\n")
    return config.model_copy(
        update={"pool": [str(file)], "batch_tokens": 8192, "engine": "backward", "curvature_samples": 50}
    )


def runs(config: SelectConfig, names: list[str], where: str) -> list[SelectConfig]:
    return [config.model_copy(update={"out": f"{config.out}-{where}-{name}", **METHODS[name]}) for name in names]


def rejected(run: Run) -> list[str]:
    return sorted((run.folder / "rejected.jsonl").read_text().splitlines())


def test_each_run_is_what_it_is_alone(many: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [run_select(config) for config in runs(many, list(METHODS), "alone")]
    configs = runs(many, list(METHODS), "together")
    assert together(configs) == [configs]
    notes = Notes()
    told = dict(score_together(configs, notes))
    assert set(told) == {config.out for config in configs}
    assert sum(note.startswith("loading") for note in notes.notes) == 1
    assert sum(note.startswith("one pass scores 8 methods: prism, prism-sharp") for note in notes.notes) == 1
    tokens = int(alone[0].selection.scores.column("tokens").sum())
    assert {(cost["together"], cost["tokens"], cost["reused_rows"]) for cost in told.values()} == {(8, tokens, 0)}
    # if-guide's factors are those of prism-ekfac
    assert [bool(list(Path(config.out).glob("curvature/*"))) for config in configs[3:5]] == [True, False]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("prism.run.prepare.load_model", refuse)
    for config, before in zip(configs, alone, strict=True):
        run = run_select(config)
        for name in ("score", "loss", "gradient_norm"):
            mine, theirs = run.selection.scores.column(name), before.selection.scores.column(name)
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * np.nanmax(np.abs(theirs), initial=0))
        assert run.selection.scores.column("id").tolist() == before.selection.scores.column("id").tolist()
        assert run.selection.places.tolist() == before.selection.places.tolist()
        assert rejected(run) == rejected(before)
        assert run.summary["rows"] == {**before.summary["rows"], "reused": before.summary["rows"]["good"]}
        assert run.target.table.equals(before.target.table)
    assert dict(score_together(configs, Notes())) == {}  # nothing is left to do


def test_a_pass_that_was_killed_goes_on(many: SelectConfig) -> None:
    configs = runs(many, ["prism", "cosine"], "killed")
    dict(score_together(configs, Notes()))
    whole = [run_select(config).selection.scores.column("score") for config in configs]
    for config in configs:
        (Path(config.out) / "summary.json").unlink()
    flip(Path(configs[0].out) / "scores" / "shard-000001.parquet")
    for shard in Path(configs[1].out).glob("checkpoints/*/shard-000001.parquet"):
        shard.unlink()
    notes = Notes()
    told = dict(score_together(configs, notes))
    assert {cost["reused_rows"] for cost in told.values()} == {SHARD_ROWS}
    for config, before in zip(configs, whole, strict=True):
        np.testing.assert_allclose(run_select(config).selection.scores.column("score"), before, rtol=1e-5)


def test_as_many_directions_a_pass_as_the_memory_holds(many: SelectConfig) -> None:
    names = ["prism", "sharp", "chosen", "mean", "cosine"]
    weights = Notes()
    run_select(many.model_copy(update={"out": f"{many.out}-size"}), weights)
    said = next(note for note in weights.notes if note.startswith("gradients in"))
    size = int(said.split("(")[1].split(" ")[0].replace(",", ""))
    notes = Notes()
    few = many.model_copy(update={"direction_memory": f"{2 * 2 * size * 4}B"})
    configs = runs(few, names, "tiles")
    told = score_together(configs, notes)
    first = [out for out, _ in islice(told, 2)]
    assert first == [config.out for config in configs[:2]]
    assert list(Path(first[1]).glob("**/scores/*.parquet")) and not list(Path(configs[2].out).glob("**/scores/*"))
    rest = list(told)  # what a pass was for is told before the next begins
    passes = [note for note in notes.notes if note.startswith("one pass")]
    assert [note.partition(":")[0] for note in passes] == ["one pass scores 2 methods"] * 2
    assert len(rest) == 2  # the fifth is left to itself

    notes = Notes()
    none = many.model_copy(update={"direction_memory": f"{2 * size * 4}B"})
    assert dict(score_together(runs(none, names, "none"), notes)) == {}
    assert any("more than direction_memory: a pass for each" in note for note in notes.notes)


def test_what_can_not_be_measured_is_left_to_itself(
    many: SelectConfig, write_jsonl: Callable[[str, Rows], Path]
) -> None:
    configs = runs(many, ["prism", "sharp", "chosen"], "odd")
    unpaired = write_jsonl("unpaired.jsonl", [{"prompt": "Q", "chosen": "A"}])
    configs[1] = configs[1].model_copy(update={"target": [str(unpaired)]})
    notes = Notes()
    told = dict(score_together(configs, notes))
    assert set(told) == {configs[0].out, configs[2].out}
    assert any(note.startswith("prism-sharp is left out of the pass for several methods") for note in notes.notes)


def test_which_runs_one_pass_can_serve(many: SelectConfig) -> None:
    def changed(**fields: Any) -> SelectConfig:
        return many.model_copy(update=fields)

    same = [changed(), changed(method="prism-sharp"), changed(curvature="kfac", damping="1e-3")]
    assert together(same) == [same]
    for other in ({"engine": "forward"}, {"pair_scores": True}, {"max_length": 9}, {"model": "m"}, {"pool": ["p"]},
                  {"parameters": "all"}, {"checkpoints": ["c"]}):  # fmt: skip
        assert together([changed(), changed(method="chosen", **other)]) == []
    assert together([changed(), changed(method="random")]) == []
    along = [changed(checkpoints=["c"], method=method) for method in ("less", "rose", "tracin", "chosen")]
    assert together(along) == [along[:2], along[2:]]  # Adam's steps, and gradients as they are
    assert together([along[0], changed(checkpoints=["c"], method=str(recipe(many, candidate_loss="sum")))]) == []


def recipe(config: SelectConfig, name: str = "mine", /, **fields: Any) -> Path:
    """A method of one's own, beginning with less."""
    place = Path(config.model) / f"{name}.yaml"
    place.write_text(yaml.safe_dump({"base": "less", **fields}))
    return place


@pytest.fixture
def along(many: SelectConfig, write_jsonl: Callable[[str, Rows], Path], tmp_path: Path) -> SelectConfig:
    """Two checkpoints of a warm-up, and pairs of two subtasks; a small pool."""
    rows: Rows = [{"prompt": f"{q} ({n})", "completion": a} for n in range(6) for q, a in TEXTS]
    pool = [str(write_jsonl("small.jsonl", rows))]
    pairs: Rows = [
        {"prompt": q, "chosen": a, "rejected": TEXTS[n - 1][1], "subtask": "ab"[n % 2]}
        for n, (q, a) in enumerate(TEXTS[:5])
    ]
    fields: dict[str, Any] = {"share": "16", "epochs": 1, "checkpoints": 2}
    place = warmup(WarmupConfig(model=many.model, pool=pool, out=str(tmp_path / "warm"), **fields))
    target = [str(write_jsonl("subtasks.jsonl", pairs))]
    return many.model_copy(update={"checkpoints": [str(place)], "pool": pool, "target": target})


def test_methods_along_a_warm_up_and_targets_share_each_checkpoint_s_pass(
    along: SelectConfig, write_jsonl: Callable[[str, Rows], Path]
) -> None:
    other = [str(write_jsonl("other.jsonl", [{"prompt": q, "chosen": a, "rejected": "no"} for q, a in TEXTS[4:]]))]
    changes: list[dict[str, Any]] = [
        {"method": "less"},
        {"method": "rose"},
        {"method": "less", "target": other},
        {"method": str(recipe(along, aggregate="subtask-round-robin"))},
    ]
    alone = [run_select(along.model_copy(update={**c, "out": f"{along.out}-{n}"})) for n, c in enumerate(changes)]
    configs = [along.model_copy(update={**c, "out": f"{along.out}-with-{n}"}) for n, c in enumerate(changes)]
    assert together(configs) == [configs]
    notes = Notes()
    told = dict(score_together(configs, notes))
    passes = [note for note in notes.notes if note.startswith("one pass scores")]
    assert passes == ["one pass scores 4 methods: less, rose, less, mine"] * 2
    tokens = int(alone[0].selection.scores.column("tokens").sum())
    assert {(cost["together"], cost["tokens"]) for cost in told.values()} == {(4, 2 * tokens)}
    for config, before in zip(configs, alone, strict=True):
        after = Notes()
        run = run_select(config, after)
        assert [note for note in after.notes if note.startswith("reused checkpoint")] == [
            "reused checkpoint 1 of 2", "reused checkpoint 2 of 2"
        ]  # fmt: skip
        for name in ("score", "loss"):
            mine, theirs = run.selection.scores.column(name), before.selection.scores.column(name)
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
        assert run.selection.places.tolist() == before.selection.places.tolist()
        assert run.target.table.equals(before.target.table)


def test_a_run_that_was_begun_alone_joins_at_the_next_checkpoint(along: SelectConfig) -> None:
    configs = [along.model_copy(update={"method": m, "out": f"{along.out}-{m}"}) for m in ("less", "rose")]
    dict(score_together(configs, Notes()))
    whole = [run_select(config).selection.scores.column("score") for config in configs]
    for config in configs:
        (Path(config.out) / "summary.json").unlink()
        shutil.rmtree(Path(config.out) / "checkpoints" / "002")
    shutil.rmtree(Path(configs[1].out) / "checkpoints" / "001")
    notes = Notes()
    assert dict(score_together(configs, notes)) == {}  # rose is left to find its first checkpoint alone
    assert sum(note.startswith("one pass scores") for note in notes.notes) == 1
    for config, before in zip(configs, whole, strict=True):
        np.testing.assert_allclose(run_select(config).selection.scores.column("score"), before, rtol=1e-3, atol=1e-6)


def test_what_fails_at_a_checkpoint_takes_no_other_down(along: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = {"dpo", "chosen"}
    told: list[str] = []

    def measured(job: Any, recipe: Any, *rest: Any) -> Any:
        told.append(recipe.name)
        if recipe.target in failing:
            raise DataError(f"{recipe.name} can't be measured")
        return measured_at(job, recipe, *rest)

    monkeypatch.setattr("prism.run.joint_pass.measured_at", measured)
    names = {"less": {}, "rose": {}, "mine": {"target": "pair"}, "other": {"target": "pair", "weight": "prism"}}
    methods = ["less", "rose", *(str(recipe(along, name, **fields)) for name, fields in names.items() if fields)]
    configs = [along.model_copy(update={"method": m, "out": f"{along.out}-{n}"}) for n, m in enumerate(methods)]
    notes = Notes()
    done = dict(score_together(configs, notes))
    assert set(done) == {config.out for config in configs[2:]}
    assert told == ["less", "rose", "mine", "other", "mine", "other"]  # no second try
    failing.add("pair")
    alone = [config.model_copy(update={"out": f"{config.out}-again"}) for config in configs]
    assert dict(score_together(alone, Notes())) == {}


def test_a_subtask_that_can_not_be_measured(along: SelectConfig, write_jsonl: Callable[[str, Rows], Path]) -> None:
    pairs: Rows = [{"prompt": q, "chosen": a, "rejected": "no", "subtask": "a"} for q, a in TEXTS[:2]]
    pairs.append({"prompt": "x " * 5000, "chosen": "yes", "rejected": "no", "subtask": "b"})
    odd = along.model_copy(update={"target": [str(write_jsonl("odd.jsonl", pairs))]})
    configs = [odd.model_copy(update={"method": m, "out": f"{odd.out}-{m}"}) for m in ("less", "rose")]
    costs = dict(score_together(configs, Notes()))
    tokens = int(run_select(configs[0]).selection.scores.column("tokens").sum())
    assert [cost["tokens"] for cost in costs.values()] == [2 * tokens] * 2


def test_room_counts_the_directions_of_subtasks(along: SelectConfig, write_jsonl: Callable[[str, Rows], Path]) -> None:
    weights = Notes()
    run_select(along.model_copy(update={"method": "less", "out": f"{along.out}-size"}), weights)
    said = next(note for note in weights.notes if note.startswith("gradients in"))
    size = int(said.split("(")[1].split(" ")[0].replace(",", ""))
    few = along.model_copy(update={"direction_memory": f"{2 * 4 * size * 4}B"})
    big = write_jsonl("big.jsonl", [{"prompt": q, "chosen": a, "rejected": "", "subtask": q} for q, a in TEXTS[:5]])
    methods = ("less", "rose", "big", "less", "less")  # two directions, one, five, two and two
    configs = [few.model_copy(update={"method": m, "out": f"{few.out}-{n}"}) for n, m in enumerate(methods)]
    configs[2] = configs[2].model_copy(update={"method": "less", "target": [str(big)]})
    notes = Notes()
    told = dict(score_together(configs, notes))
    passes = [note for note in notes.notes if note.startswith("one pass scores")]
    assert passes == ["one pass scores 2 methods: less, rose"] * 2 + ["one pass scores 2 methods: less, less"] * 2
    assert len(told) == 4
