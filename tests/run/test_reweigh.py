"""Pair scores of a run against single-pair autograd, and what reweighing makes of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from prism import load_model, load_pool, load_target
from prism.config import SelectConfig
from prism.errors import ConfigError, DataError, RunError
from prism.model import Model
from prism.run.explain import explain_rows
from prism.run.folder import PAIR_SCORES
from prism.run.reweigh import reweigh
from prism.run.select import run_select
from prism.scoring import feed, matrix
from prism.target.pairs import pair_gradients
from tests import oracle
from tests.cli.command import prism
from tests.run.test_select import Notes, contents, flip
from tests.small_memory import room_for


@pytest.fixture
def job(config: SelectConfig) -> SelectConfig:
    return config.model_copy(update={"pair_scores": True, "dtype": "float64"})


def expected(config: SelectConfig) -> tuple[np.ndarray, np.ndarray]:
    """(chosen, rejected) [rows, pairs] by plain autograd, one sample and one side at a time."""
    model = load_model(config.model, dtype="float64")
    encoder = model.encoder()
    rows = [oracle.sample_gradient(model, encoder.row(row))[1] for row in load_pool(config.pool)]
    sides = []
    for pair in load_target(config.target):
        with model.requiring_grad():
            losses = [oracle.token_losses(model.network, side).mean() for side in encoder.pair(pair)]
            found = [torch.autograd.grad(loss, list(model.parameters.values())) for loss in losses]
        sides.append([dict(zip(model.parameters, gradients, strict=True)) for gradients in found])
    matrix = np.array([[[oracle.dot(g, side) for side in pair] for pair in sides] for g in rows])
    return matrix[..., 0], matrix[..., 1]


@pytest.mark.parametrize("memory", ["4GB", "160KB", "1B"])
def test_each_side_of_each_pair_has_its_exact_score(job: SelectConfig, memory: str) -> None:
    notes = Notes()
    run = run_select(job.model_copy(update={"direction_memory": memory}), notes)
    table = pq.read_table(run.folder / PAIR_SCORES)
    matrix = {side: np.array(table.column(side).to_pylist()) for side in ("chosen", "rejected")}
    for found, right in zip(matrix.values(), expected(job), strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-7, atol=1e-7 * np.abs(right).max())
    assert table.column("id").to_pylist() == [row.id for row in load_pool(job.pool)]
    assert not (run.folder / "pairs").exists()
    passes = {"4GB": "1 pass over the pool with 4 pairs", "160KB": "4 passes", "1B": "4 passes"}[memory]
    assert any(passes in note for note in notes.notes), notes.notes


@pytest.mark.parametrize(
    ("weights", "weigh"),
    [
        ("prism", lambda pi: pi),
        ("uniform", np.ones_like),
        ("hard", lambda pi: 1 - pi),
        ("boundary", lambda pi: pi * (1 - pi)),
        ("prism^3", lambda pi: pi**3),
    ],
)
def test_scores_under_other_weights(job: SelectConfig, weights: str, weigh: object) -> None:
    run = run_select(job)
    made = reweigh(run.folder, weights)
    chosen, rejected = expected(job)
    w = weigh(run.target.table.column("preference").to_numpy())  # type: ignore[operator]
    right = (chosen - rejected) @ w / len(w)
    np.testing.assert_allclose(made.selection.scores.column("score"), right, atol=1e-6 * np.abs(right).max())
    kept = [json.loads(line)["prism"]["id"] for line in (made.folder / "selected.jsonl").open()]
    best = np.argsort(-right, kind="stable")[: len(kept)]
    assert kept == [made.selection.scores.ids([place])[0] for place in best]
    assert made.folder == run.folder / "reweighed" / weights
    if weights == "prism":
        assert made.summary["same_as_the_run"] == len(run.selection) == made.summary["rows"]


def test_chosen_alone(job: SelectConfig) -> None:
    run = run_select(job)
    right = expected(job)[0] @ run.target.table.column("preference").to_numpy() / run.target.table.num_rows
    found = reweigh(run.folder, "chosen").selection.scores.column("score")
    np.testing.assert_allclose(found, right, atol=1e-6 * np.abs(right).max())


def test_no_gain_is_foretold_through_a_curvature(job: SelectConfig) -> None:
    run = run_select(job.model_copy(update={"curvature": "diagonal"}))
    summary = reweigh(run.folder, "uniform").summary
    assert summary["gain"] is None and summary["random_gain"] is None and run.summary["selection"]["gain"] is None
    done = prism("reweigh", str(run.folder), "--weights", "uniform")
    assert done.code == 0 and "first-order" not in done.out, done


def test_other_budgets_and_places(job: SelectConfig, tmp_path: Path) -> None:
    run = run_select(job)
    made = reweigh(run.folder, "uniform", tmp_path / "elsewhere", budget="1", order="bottom")
    assert len(made.selection) == 1
    assert made.selection.places[0] == np.argmin(made.selection.scores.column("score"))
    assert (tmp_path / "elsewhere" / "selected.jsonl").exists()


def test_a_finished_run_can_be_given_pair_scores(config: SelectConfig) -> None:
    run = run_select(config)
    scores = {n: d for n, d in contents(run.folder).items() if n.startswith("scores/")}
    with pytest.raises(RunError, match=r"there are no pair scores .* --pair-scores"):
        reweigh(run.folder, "uniform")
    run_select(config.model_copy(update={"pair_scores": True}))
    assert reweigh(run.folder, "uniform").summary["pairs"] == 4
    assert scores.items() <= contents(run.folder).items()


def test_damage_is_noticed_and_mended(job: SelectConfig) -> None:
    run = run_select(job)
    before = (run.folder / PAIR_SCORES).read_bytes()
    chosen = pq.ParquetFile(run.folder / PAIR_SCORES).metadata.row_group(0).column(2)
    flip(run.folder / PAIR_SCORES, (chosen.data_page_offset + chosen.total_compressed_size // 2) / len(before))
    with pytest.raises(RunError, match="damaged"):
        reweigh(run.folder, "uniform")
    (run.folder / PAIR_SCORES).unlink()
    run_select(job)
    assert (run.folder / PAIR_SCORES).read_bytes() == before


def test_pairs_that_are_too_long_for_the_memory_are_left_out(
    job: SelectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the directions there is less room than there was when the target was measured."""
    lengths = [max(map(len, load_model(job.model).encoder().pair(pair))) for pair in load_target(job.target)]
    long = np.array(lengths) == max(lengths)
    room = max(length for length in lengths if length < max(lengths))
    gradients = pair_gradients

    def cramped(model: Model, pairs: object) -> Iterator[object]:
        with room_for(model.network, room):
            yield from gradients(model, pairs)  # type: ignore[arg-type]

    monkeypatch.setattr(matrix, "pair_gradients", cramped)
    notes = Notes()
    run = run_select(job.model_copy(update={"direction_memory": "160KB"}), notes)
    names = np.array(run.target.table.column("id").to_pylist())
    assert folder_pairs(run.folder) == names[~long].tolist()
    said = f"the pair scores leave out {long.sum()} of 4 pairs, such as {names[long][0]}"
    assert said in notes.notes, notes.notes
    made = reweigh(run.folder, "uniform")
    chosen, rejected = (side[:, ~long] for side in expected(job))
    right = (chosen - rejected).mean(1)
    np.testing.assert_allclose(made.selection.scores.column("score"), right, atol=1e-6 * np.abs(right).max())
    views, pulls = explain_rows(run.folder, [run.selection.scores.ids([0])[0]], pulls=True)
    assert pulls is not None and pulls.pairs == names[~long].tolist() and len(views) == 1


def test_no_pair_fits(job: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "pair_gradients", lambda _, pairs: iter([None] * len(pairs)))
    with pytest.raises(DataError, match="no target pair fits into the memory beside the directions"):
        run_select(job)


def folder_pairs(folder: Path) -> list[str]:
    names: list[str] = json.loads(pq.read_schema(folder / PAIR_SCORES).metadata[b"prism.pairs"])
    return names


def test_a_stopped_pass_goes_on(job: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    tiled = job.model_copy(update={"direction_memory": "1B"})
    whole = run_select(tiled.model_copy(update={"out": job.out + "2"}))
    scored = feed.score_shards
    calls: Iterator[int] = iter(range(9))

    def stopped(*args: object, **options: object) -> object:
        if next(calls) == 3:  # the scores and two of four tiles are there
            raise KeyboardInterrupt
        return scored(*args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("prism.scoring.matrix.score_shards", stopped)
        patch.setattr("prism.scoring.stream.score_shards", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_select(tiled)
    tiles = contents(Path(job.out) / "pairs")
    assert len(tiles) == 2
    run_select(tiled)
    a, b = (pq.read_table(folder / PAIR_SCORES) for folder in (Path(job.out), whole.folder))
    assert a.equals(b)


@pytest.mark.parametrize("weights", ["hardest", "prism^", "prism^x", "uniform^2"])
def test_unknown_weights(weights: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prism, uniform, hard"):
        reweigh(tmp_path, weights)
