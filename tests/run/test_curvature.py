"""Curvature in a run: fitted, stored, found again, borrowed, refused; scores as plain autograd has them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import prism
from prism.config import SelectConfig, load_config
from prism.curvature import Damping
from prism.errors import ConfigError, RunError
from prism.run.estimate import estimate_run
from prism.run.explain import explain_row
from prism.run.reweigh import reweigh
from prism.run.select import Run, finished_run, run_select
from prism.target import Direction
from tests import oracle
from tests.run.test_select import Notes


def change(config: SelectConfig, out: str, **changes: Any) -> SelectConfig:
    changes = {"dtype": "float64", **changes, "out": str(Path(config.out).parent / out)}
    return SelectConfig.model_validate({**config.model_dump(by_alias=False), **changes})


def scores(run: Run) -> Any:
    return run.selection.scores.column("score")


def right(config: SelectConfig, run: Run, curvature: Any, cosine: bool = False) -> Any:
    """Scores by plain autograd against the solved direction of a curvature fitted by the Python interface."""
    model = prism.load_model(config.model, dtype="float64", parameters=config.parameters)
    pool, direction = prism.load_pool(config.pool), Direction.load(next(run.folder.rglob("direction.safetensors")))
    solved = curvature(model, pool).solve(direction).tensors
    encoder = model.encoder()
    gradients = [oracle.sample_gradient(model, encoder.row(row))[1] for row in pool]
    lengths = [oracle.norm(g) * oracle.norm(solved) if cosine else 1.0 for g in gradients]
    return [oracle.dot(g, solved) / length for g, length in zip(gradients, lengths, strict=True)]


@pytest.mark.parametrize("kind", ["diagonal", "kfac", "ekfac", "cg", "datainf"])
def test_scores_are_products_with_the_solved_direction(config: SelectConfig, kind: Any) -> None:
    job = change(config, kind, curvature=kind, cg_iterations=8, cg_tolerance=1e-9)
    run = run_select(job)
    expected = right(job, run, lambda model, pool: prism.fit_curvature(model, pool, kind, iterations=8, tolerance=1e-9))
    np.testing.assert_allclose(scores(run), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    assert run.summary["phases"]["curvature"] > 0


def test_cosines_are_with_the_solved_direction(config: SelectConfig) -> None:
    job = change(config, "cosine", method="prism-kfac-cosine")
    run = run_select(job)
    expected = right(job, run, lambda model, pool: prism.fit_curvature(model, pool, "kfac"), cosine=True)
    np.testing.assert_allclose(scores(run), expected, rtol=1e-5, atol=1e-6)


def test_datainf_is_kept_and_found_again(config: SelectConfig) -> None:
    """The method's own row: y+ alone, mean-token candidates, the data's labels whatever `curvature_labels` says."""
    job = change(config, "datainf", method="datainf")
    run = run_select(job)
    (kept,) = (run.folder / "curvature").glob("solved-*.safetensors")
    for shard in list(run.folder.rglob("shard-*")):
        shard.unlink()
    notes = Notes()
    again = run_select(job, notes)
    assert "reused the solution of datainf" in notes.notes and kept.exists()
    assert scores(again).tolist() == scores(run).tolist()
    drawn = run_select(change(config, "drawn", method="datainf", curvature_labels="model"))
    assert scores(drawn).tolist() == scores(run).tolist()
    pairs = run_select(change(config, "pairs", curvature="datainf", pair_scores=True))
    with finished_run(pairs.folder) as (_, folder, _, _):
        weights = pairs.target.table.column("weight").to_numpy()
        np.testing.assert_allclose(folder.pair_scores().weighted(weights), scores(pairs), rtol=1e-4, atol=1e-6)


def test_a_damping_has_its_effect(config: SelectConfig) -> None:
    job = change(config, "damped", curvature="ekfac", damping="1e6")
    run, plain = run_select(job), run_select(change(config, "plain"))
    np.testing.assert_allclose(scores(run) * 1e6, scores(plain), rtol=1e-3)  # so large that nothing else counts


def test_a_fit_is_found_again_and_redone_where_it_is_damaged(config: SelectConfig) -> None:
    job = change(config, "again", curvature="ekfac", direction_memory="40KB")
    run, folder = run_select(job), Path(config.out).parent / "again"
    parts = sorted((folder / "curvature").glob("part-*.safetensors"))
    assert len(parts) > 2
    first = parts[1].read_bytes()
    parts[1].write_bytes(first[:-8] + bytes(8))
    stamps = {part: part.stat().st_mtime_ns for part in parts}
    shutil.rmtree(folder / "scores")
    (folder / "summary.json").unlink()
    notes = Notes()
    np.testing.assert_array_equal(scores(run_select(job, notes)), scores(run))
    assert any(f"reused {len(parts) - 1} of {len(parts)} parts" in note for note in notes.notes), notes.notes
    assert parts[1].read_bytes() == first
    assert [part for part in parts if part.stat().st_mtime_ns != stamps[part]] == [parts[1]]


def test_a_row_is_explained_with_the_curvature_of_its_run(config: SelectConfig) -> None:
    job = change(config, "explained", curvature="kfac")
    run = run_select(job)
    name = run.selection.scores.table.column("id")[2].as_py()
    view = explain_row(run.folder, name)
    assert view["score"] == pytest.approx(scores(run)[2], rel=1e-6)


def test_a_fit_serves_another_pool_but_no_other_model_or_parameters(config: SelectConfig, write_jsonl: Any) -> None:
    run = run_select(change(config, "first", curvature="ekfac"))
    borrowed = {"curvature": "ekfac", "curvature_from": str(run.folder)}
    rows = [json.loads(line) for line in Path(config.pool[0]).read_text().splitlines()]
    half = write_jsonl("half.jsonl", rows[::2])
    other = run_select(change(config, "half", pool=[str(half)], **borrowed))
    np.testing.assert_allclose(scores(other), scores(run)[::2], rtol=1e-6)
    assert not (other.folder / "curvature").exists()
    with pytest.raises(RunError, match="it is ekfac, not kfac"):
        run_select(change(config, "kind", **{**borrowed, "curvature": "kfac"}))
    with pytest.raises(RunError, match="parameters differ, such as"):
        run_select(change(config, "q", parameters="q_proj", **borrowed))
    with pytest.raises(RunError, match="holds neither"):
        run_select(change(config, "none", curvature="ekfac", curvature_from=config.model))
    part = next((run.folder / "curvature").glob("part-*"))
    part.write_bytes(part.read_bytes()[:-8] + bytes(8))
    with pytest.raises(RunError, match="is damaged"):
        run_select(change(config, "damaged", **borrowed))


def test_reweighing_holds_under_a_curvature(config: SelectConfig) -> None:
    job = change(config, "pairs", curvature="ekfac", pair_scores=True)
    run = run_select(job)
    reweigh(run.folder, "prism")
    table = pq.read_table(run.folder / "reweighed" / "prism" / "scores.parquet")
    np.testing.assert_allclose(
        table.column("score").to_numpy(), scores(run), rtol=1e-5, atol=1e-6 * np.abs(scores(run)).max()
    )


def test_a_new_lora_is_damped_by_the_models_mean(config: SelectConfig) -> None:
    run = run_select(change(config, "lora", curvature="ekfac", parameters="lora", lora_rank=2))
    assert np.isfinite(scores(run)).all() and np.abs(scores(run)).max() > 0


def test_a_pool_of_one_row(config: SelectConfig, write_jsonl: Any) -> None:
    row = json.loads(Path(config.pool[0]).read_text().splitlines()[0])
    run = run_select(change(config, "one", pool=[str(write_jsonl("one.jsonl", [row]))], curvature="ekfac"))
    assert np.isfinite(scores(run)).all()


def test_adams_second_moments_are_a_diagonal(config: SelectConfig, tmp_path: Path) -> None:
    model = prism.load_model(config.model, dtype="float64")
    for p in model.parameters.values():
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters.values(), lr=0.0, weight_decay=0.0)
    encoder = model.encoder()
    squares: dict[str, torch.Tensor] = {}
    for step, row in enumerate(list(prism.load_pool(config.pool))[:3]):
        _, found = oracle.sample_gradient(model, encoder.row(row))
        for name, p in model.parameters.items():
            p.requires_grad_(True)
            p.grad = found[name]
            squares[name] = squares.get(name, 0.0) + 0.999 ** (2 - step) * 0.001 * found[name].square()
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    job = change(config, "adam", curvature="adam", curvature_from=str(tmp_path))
    run = run_select(job)
    direction = Direction.load(run.folder / "direction.safetensors").tensors
    corrected = {name: s / (1 - 0.999**3) for name, s in squares.items()}
    solved = {name: v / (corrected[name] + 0.1 * corrected[name].mean()) for name, v in direction.items()}
    expected = [
        oracle.dot(oracle.sample_gradient(model, encoder.row(row))[1], solved) for row in prism.load_pool(job.pool)
    ]
    np.testing.assert_allclose(scores(run), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_dry_run_counts_the_fit(config: SelectConfig) -> None:
    for kind in ("ekfac", "cg", "datainf"):
        job = change(config, f"dry-{kind}", curvature=kind, cg_iterations=3)
        estimate = estimate_run(job)
        assert estimate["phases"]["curvature"] > 0 and estimate["disk_bytes"]["curvature"] > 0
        assert not Path(job.out).exists()
    run = run_select(change(config, "dry-ekfac", curvature="ekfac"))
    size = sum(part.stat().st_size for part in (run.folder / "curvature").glob("part-*"))
    estimate = estimate_run(change(config, "dry", curvature="ekfac"))
    assert estimate["disk_bytes"]["curvature"] == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"damping": "much"}, "neither a share"),
        ({"damping": "-1"}, "neither a share"),
        ({"damping": "nan mean"}, "neither a share"),
        ({"curvature": "adam"}, "needs a checkpoint"),
        ({"curvature": "cg", "curvature_from": "x"}, "is not fitted"),
        ({"curvature": "datainf", "curvature_from": "x"}, "is not fitted"),
        ({"curvature": "sigmoid"}, "curvature"),
        ({"curvature_samples": 0}, "curvature-samples"),
    ],
)
def test_malformed_options_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config(None, {"model": "m", "pool": "p", "target": "t", "out": "o", **fields})


def test_damping_is_absolute_or_a_share() -> None:
    assert Damping.parse("0.1 mean") == Damping(0.1, True) and Damping.parse("1e-3") == Damping(1e-3, False)
    assert (
        Damping(0.5).of(2.0, 8.0) == 1.0
        and Damping(0.5).of(0.0, 8.0) == 4.0
        and Damping(0.5, False).of(2.0, 8.0) == 0.5
    )
