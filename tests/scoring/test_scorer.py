"""Memory that runs out, and an inexact engine that is watched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prism.data import load_pool, load_target
from prism.errors import DataError
from prism.model import Model
from prism.scoring import Folder, ScoreTable, score_pool
from prism.scoring.backward import StreamingEngine
from prism.scoring.choose import Chosen, EngineName
from prism.scoring.forward import CentralDifference
from prism.scoring.scorer import Scorer
from prism.target import Direction, measure_target
from tests import oracle
from tests.conftest import TEXTS, Rows
from tests.scoring.exactness import ROWS, encoded, random_direction
from tests.scoring.forward import PAIRS, exact_scores, llama, off, stacked, target_direction
from tests.small_memory import room_for

Notes = list[dict[str, Any]]


class Said:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, phase: str, rows: int) -> None: ...

    def advance(self, rows: int, tokens: int) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def rows() -> Rows:
    """Some forty rows of varied length, in shards of ten."""
    return [
        {"id": f"{n}-{i}", "prompt": f"{q} ({n})", "completion": a} for n in range(6) for i, (q, a) in enumerate(TEXTS)
    ]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing real is held when memory runs out here, and to look for it takes a while."""
    monkeypatch.setattr("prism.model.memory.make_room", lambda: None)


def run(
    model: Model,
    v: Direction,
    rows: Rows,
    folder: Path,
    engine: EngineName = "backward",
    said: Said | None = None,
) -> tuple[ScoreTable, Notes]:
    store = Folder(folder, "test")
    table = score_pool(
        model,
        load_pool(rows),
        v,
        model.encoder(),
        batch_tokens=400,
        shard_rows=10,
        engine=engine,
        store=store,
        progress=said,
    )
    shards = [store.get(n) for n in range(-(-len(rows) // 10))]
    return table, [dict(shard.notes) for shard in shards if shard is not None]


@pytest.mark.parametrize(("engine", "bound"), [("backward", 1e-5), ("forward", 2e-3)])
def test_batches_halve_and_scores_stay(
    engine: EngineName, bound: float, rows: Rows, tokenizer: Any, tmp_path: Path
) -> None:
    model = llama(tokenizer)
    v = target_direction(model)
    undisturbed, notes = run(model, v, rows, tmp_path / "a", engine)
    assert all(note["batch_tokens"] == 400 and "halved_from" not in note for note in notes)
    said = Said()
    with room_for(model.network, 150):
        tight, notes = run(model, v, rows, tmp_path / "b", engine, said)
    assert off(tight.column("score"), undisturbed.column("score")) < bound
    assert tight.column("flag").tolist() == undisturbed.column("flag").tolist()
    assert tight.details["engine"] == undisturbed.details["engine"]
    assert notes[0]["halved_from"] == 400 and notes[-1]["batch_tokens"] < 200
    told = [
        f"out of memory: batches of at most {n['batch_tokens']} tokens from here on"
        for n in notes
        if "halved_from" in n
    ]
    assert [note for note in said.notes if "out of memory" in note] == told


@pytest.mark.parametrize("engine", ["backward", "forward"])
@pytest.mark.parametrize("done", [1, 3])
def test_a_resumed_run_makes_the_same_bytes(
    done: int, engine: EngineName, rows: Rows, tokenizer: Any, tmp_path: Path
) -> None:
    model = llama(tokenizer)
    v = target_direction(model)
    with room_for(model.network, 150):
        first, notes = run(model, v, rows, tmp_path, engine)
        files = sorted(tmp_path.iterdir())
        before = [file.read_bytes() for file in files]
        for file in files[done:]:
            file.unlink()
    with room_for(model.network, 10_000) as sizes:  # there is room again: the notes alone keep batches small
        again, _ = run(model, v, rows, tmp_path, engine)
    assert [file.read_bytes() for file in files] == before
    assert again.table.equals(first.table)
    assert again.details == {**first.details, "reused": 10 * done}
    assert max(sizes[-6:]) <= notes[done - 1]["batch_tokens"]  # the last batches, after those of the checks


def test_a_shard_that_is_made_anew_in_the_middle(rows: Rows, tokenizer: Any, tmp_path: Path) -> None:
    model = llama(tokenizer)
    v = target_direction(model)
    with room_for(model.network, 150):
        run(model, v, rows, tmp_path)
        files = sorted(tmp_path.iterdir())
        before = [file.read_bytes() for file in files]
        files[0].unlink()
        files[3].unlink()
        run(model, v, rows, tmp_path)
    assert [file.read_bytes() for file in files] == before


def test_a_sample_that_does_not_fit_alone(rows: Rows, tokenizer: Any, tmp_path: Path) -> None:
    model = llama(tokenizer)
    v = target_direction(model)
    long = {"id": "long", "prompt": "Count", "completion": "and so on, " * 30}
    undisturbed, _ = run(model, v, rows, tmp_path / "a")
    with room_for(model.network, 100):
        tight, _ = run(model, v, [*rows[:15], long, *rows[15:]], tmp_path / "b")
    place = tight.ids(range(len(tight))).index("long")
    assert tight.column("flag")[place] == "too-long" and np.isnan(tight.column("score")[place])
    assert np.flatnonzero(tight.flagged("too-long")).tolist() == [place]
    assert off(np.delete(tight.column("score"), place), undisturbed.column("score")) < 1e-5


def test_no_sample_fits(rows: Rows, tokenizer: Any) -> None:
    model = llama(tokenizer)
    v = target_direction(model)
    with (
        room_for(model.network, 5),
        pytest.raises(
            DataError, match=r"none of the 42 samples fits into the memory, not even one of \d+ tokens alone"
        ),
    ):
        score_pool(model, load_pool(rows), v, model.encoder())


def test_a_sample_that_only_the_exact_engine_has_room_for(tokenizer: Any) -> None:
    model = llama(tokenizer)
    v, samples = target_direction(model), encoded(model)
    reference = StreamingEngine(model, stacked(v), norms=False)
    tight = CentralDifference(model, stacked(v), 1e-3)
    tight.score = lambda batch: torch.empty(1 << 60)  # type: ignore[method-assign, assignment, return-value]
    scorer = Scorer(model, Chosen(tight, "", reference), 1, 1000)
    scored = scorer.score(samples, lambda *_: None)
    assert scored.fits.all()
    assert off(scored.scores[:, 0], exact_scores(model, samples, v)) < 1e-5


def test_other_errors_end_the_run(rows: Rows, tokenizer: Any, tmp_path: Path) -> None:
    model = llama(tokenizer)
    v = target_direction(model)
    model.network.lm_head.register_forward_hook(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run(model, v, rows, tmp_path)


def watched(model: Model, v: Direction, step: float) -> Scorer:
    reference = StreamingEngine(model, stacked(v), norms=False)
    return Scorer(model, Chosen(CentralDifference(model, stacked(v), step), "", reference), 1, 200)


def test_an_inexact_engine_tells_its_error(tokenizer: Any) -> None:
    model = llama(tokenizer)
    v, samples = target_direction(model), encoded(model)
    scored = watched(model, v, 1e-3).score(samples, lambda *_: None)
    exact = exact_scores(model, samples, v)
    difference, size = scored.notes["difference"]
    order = sorted(range(len(samples)), key=lambda i: len(samples[i]))
    places = [order[len(order) // 4], order[3 * len(order) // 4]]
    assert difference == pytest.approx(((scored.scores[places, 0] - exact[places]) ** 2).sum(), rel=0.05)
    assert size == pytest.approx(2 * (exact**2).mean(), rel=1e-2)
    assert scored.notes["engine"] == "forward (central difference)" and scored.said == []


def test_one_that_is_too_far_off_is_given_up(tokenizer: Any) -> None:
    model = llama(tokenizer)
    v, samples = random_direction(model), encoded(model)
    scorer = watched(model, v, 0.3)
    scored = scorer.score(samples, lambda *_: None)
    assert off(scored.scores[:, 0], exact_scores(model, samples, v)) < 1e-5
    assert scored.notes == {"engine": "backward", "batch_tokens": 200}
    assert scored.said[0].startswith("the forward (central difference) engine is off by ")
    again = watched(model, v, 0.3)
    again.recall(scored.notes)
    assert again.engine.name == "backward"
    assert np.array_equal(again.score(samples, lambda *_: None).scores, scored.scores)


def test_a_table_names_all_its_engines(tokenizer: Any, tmp_path: Path) -> None:
    """Later rows begin with a token whose embedding is so small that the step along the direction dwarfs it."""
    model = llama(tokenizer, "all")
    v = target_direction(model)
    token = tokenizer("zebra", add_special_tokens=False)["input_ids"][-1]
    with torch.no_grad():
        model.network.model.embed_tokens.weight[token] *= 1e-2
    v.tensors["model.embed_tokens.weight"][token] += 0.3 * v.norm() / 24**0.5
    usual = [{"prompt": f"{r['prompt']} {n}", "completion": r["completion"]} for n in range(8) for r in ROWS]
    odd = [{"prompt": f"Zebra? {n}", "completion": "zebra zebra zebra zebra"} for n in range(20)]
    table, notes = run(model, v, usual + odd, tmp_path, "forward")
    assert table.details["engine"] == "forward (central difference), then backward", notes
    assert 0 < table.details["error"] < 1e-3
    samples = encoded(model, odd)
    assert off(table.column("score")[-20:], exact_scores(model, samples, v)) < 1e-5


def test_the_target_is_measured_in_smaller_batches(tokenizer: Any) -> None:
    model = llama(tokenizer, dtype=torch.float64)
    encoder, target, said = model.encoder(), load_target(PAIRS), Said()
    expected = measure_target(model, target, encoder)
    with room_for(model.network, 100) as sizes:
        found = measure_target(model, target, encoder, progress=said)
    assert max(sizes) > 100
    gap = {n: t - expected.direction.tensors[n] for n, t in found.direction.tensors.items()}
    assert oracle.norm(gap) <= 1e-6 * expected.direction.norm()
    assert found.table.column("flag").to_pylist() == ["ok"] * 4
    assert len(said.notes) == 1 and said.notes[0].startswith("out of memory: the target was measured in batches of at")


def test_a_pair_that_does_not_fit_alone(tokenizer: Any) -> None:
    model = llama(tokenizer, dtype=torch.float64)
    encoder = model.encoder()
    long = {"prompt": "Count", "chosen": "and so on, " * 30, "rejected": "No."}
    expected = measure_target(model, load_target(PAIRS), encoder).direction
    with room_for(model.network, 100):
        found = measure_target(model, load_target([*PAIRS, long]), encoder)
        assert found.table.column("flag").to_pylist() == ["ok"] * 4 + ["too-long"]
        assert found.table.column("weight").to_pylist()[-1] == 0
        gap = {n: t - expected.tensors[n] for n, t in found.direction.tensors.items()}
        assert oracle.norm(gap) <= 1e-6 * expected.norm()
        with pytest.raises(DataError, match="none of the 1 target pairs fits into the memory"):
            measure_target(model, load_target([long]), encoder)
