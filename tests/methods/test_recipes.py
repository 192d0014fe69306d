"""Recipes end to end in a run folder, against plain autograd one sample at a time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model

import prism
from prism.config import SelectConfig
from prism.data import load_pool, load_target
from prism.errors import ConfigError, ModelError, PrismError
from prism.methods.passes import score_groups
from prism.methods.recipe import Recipe, load_recipe
from prism.methods.table import METHODS, RECIPES, find_method
from prism.model import Model, load_model
from prism.run.explain import explain_row, explain_rows
from prism.run.reweigh import reweigh
from prism.run.select import Run, run_select
from prism.target import Objective, measure_target
from prism.target.weights import WEIGHTINGS
from tests import oracle
from tests.conftest import TEXTS, Rows
from tests.run.test_select import Notes

Write = Callable[[str, Rows], Path]
RATES = (3e-3, 5e-4)


def chats(texts: list[tuple[str, str]], **more: Any) -> Rows:
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in texts]
    return [{"messages": messages, **more} for messages in turns]


@pytest.fixture
def places(write_jsonl: Write, pool_rows: Rows, pair_rows: Rows, model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    for row, subtask in zip(pair_rows, "abba", strict=True):
        row["subtask"] = subtask
    return {
        "model": str(model_folder),
        "pool": [str(write_jsonl("pool.jsonl", pool_rows))],
        "target": [str(write_jsonl("pairs.jsonl", pair_rows))],
        "out": str(tmp_path / "run"),
        "budget": "2",
        "dtype": "float64",
    }


@pytest.fixture
def trained(model_folder: Path, tmp_path: Path) -> Path:
    """Two checkpoints of a LoRA trained with torch's own AdamW, as Trainer lays them out."""
    model = load_model(model_folder, dtype="float64", device="cpu")
    torch.manual_seed(3)
    network: Any = get_peft_model(model.network, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    named = {n: p for n, p in network.named_parameters() if "lora" in n}
    for parameter in named.values():
        parameter.requires_grad_(True)
        parameter.data.normal_(std=0.1)
    optimizer = torch.optim.AdamW(named.values(), lr=1e-2, betas=(0.9, 0.99), eps=1e-6)
    encoder, folder = model.encoder(), tmp_path / "warm"
    samples = [encoder.row(row) for row in load_pool(chats(TEXTS))]
    listed = []
    for number, rate in enumerate(RATES, 1):
        for sample in samples[number - 1 : number + 2]:
            optimizer.zero_grad()
            torch.autograd.backward(oracle.token_losses(network, sample).mean())
            optimizer.step()
        place = folder / f"checkpoint-{3 * number}"
        network.save_pretrained(place)
        torch.save(optimizer.state_dict(), place / "optimizer.pt")
        listed.append({"folder": place.name, "step": 3 * number, "learning_rate": rate})
    (folder / "warmup.json").write_text(json.dumps({"checkpoints": listed}))
    return folder


def run(places: dict[str, Any], **more: Any) -> Run:
    return run_select(SelectConfig(**{**places, **more}))


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([g.double().flatten() for _, g in sorted(gradients.items())])


def gradients_of(model: Model, sides: list[Any], mean: bool = True) -> list[torch.Tensor]:
    """Gradient of the mean or summed loss of every sample, flat."""
    found = []
    for sample in sides:
        with model.requiring_grad():
            losses = oracle.token_losses(model.network, sample)
            found.append(flat(oracle.gradients(model, losses.mean() if mean else losses.sum())))
    return found


def losses_of(model: Model, sides: list[Any]) -> Any:
    with torch.no_grad():
        losses = [oracle.token_losses(model.network, sample) for sample in sides]
    return np.array([[float(loss.mean()), float(loss.sum())] for loss in losses])


def sides_of(model: Model, places: dict[str, Any]) -> tuple[list[Any], list[Any], list[str]]:
    pairs = list(load_target(places["target"]))
    encoder = model.encoder()
    encoded = [encoder.pair(pair) for pair in pairs]
    return [c for c, _ in encoded], [r for _, r in encoded], [pair.subtask for pair in pairs]


def samples_of(model: Model) -> list[Any]:
    encoder = model.encoder()
    return [encoder.row(row) for row in load_pool(chats(TEXTS))]


def at_checkpoints(places: dict[str, Any], trained: Path) -> list[tuple[Model, Path, float]]:
    folders = [trained / "checkpoint-3", trained / "checkpoint-6"]
    return [
        (load_model(places["model"], adapter=f, dtype="float64", device="cpu"), f, rate)
        for f, rate in zip(folders, RATES, strict=True)
    ]


def adam(model: Model, folder: Path, gradient: torch.Tensor) -> torch.Tensor:
    """The step of torch's own AdamW for a learning rate of one, from the checkpoint's state."""
    named = {n: torch.nn.Parameter(p.detach().clone()) for n, p in model.parameters.items()}
    optimizer = torch.optim.AdamW(named.values(), lr=1e-2, betas=(0.9, 0.99), eps=1e-6)
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = 1.0, 0.0
    parts = dict(zip(sorted(named), torch.split(gradient, [named[n].numel() for n in sorted(named)]), strict=True))
    before = {n: p.detach().clone() for n, p in named.items()}
    for name, parameter in named.items():
        parameter.grad = parts[name].reshape(parameter.shape)
    optimizer.step()
    return flat({n: before[n] - p.detach() for n, p in named.items()})


def mean_of(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts).mean(0)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_less_is_the_best_subtasks_sum_of_cosines(places: dict[str, Any], trained: Path) -> None:
    found = run(places, method="less", checkpoints=[str(trained)])
    total = np.zeros((len(TEXTS), 2))
    for model, folder, rate in at_checkpoints(places, trained):
        chosen, _, subtasks = sides_of(model, places)
        targets = gradients_of(model, chosen)
        groups = [mean_of([g for g, s in zip(targets, subtasks, strict=True) if s == k]) for k in "ab"]
        mapped = [adam(model, folder, g) for g in gradients_of(model, samples_of(model))]
        total += rate * np.array([[cosine(m, g) for g in groups] for m in mapped])
    scores = found.selection.scores.column("score")
    assert np.allclose(scores, total.max(1), rtol=1e-6, atol=1e-9)
    groups_file = pq.read_table(Path(places["out"]) / "groups.parquet")
    assert np.allclose(np.stack(groups_file["scores"].to_pylist()), total, rtol=1e-5, atol=1e-8)
    assert groups_file["id"].to_pylist() == found.selection.scores.table.column("id").to_pylist()
    assert found.summary["cost"]["passes"] == 2
    base = load_model(places["model"], dtype="float64", device="cpu")
    pool, target = load_pool(places["pool"]), load_target(places["target"])
    in_memory = prism.score(base, pool, target, method="less", checkpoints=[trained])
    assert np.array_equal(in_memory.column("score"), scores)


def test_rose_follows_the_dpo_loss_from_the_base(places: dict[str, Any], trained: Path) -> None:
    found = run(places, method="rose", checkpoints=[str(trained)])
    base = load_model(places["model"], dtype="float64", device="cpu")
    reference = [losses_of(base, sides)[:, 1] for sides in sides_of(base, places)[:2]]
    total = np.zeros(len(TEXTS))
    for model, folder, rate in at_checkpoints(places, trained):
        chosen, rejected, _ = sides_of(model, places)
        with model.requiring_grad():
            terms = []
            for i, (c, r) in enumerate(zip(chosen, rejected, strict=True)):
                drop = [reference[0][i] - oracle.token_losses(model.network, c).sum()]
                drop.append(reference[1][i] - oracle.token_losses(model.network, r).sum())
                terms.append(-torch.nn.functional.logsigmoid(0.1 * (drop[0] - drop[1])))
            target = flat(oracle.gradients(model, torch.stack(terms).mean()))
        mapped = [adam(model, folder, g) for g in gradients_of(model, samples_of(model))]
        total += rate * np.array([cosine(m, target) for m in mapped])
    assert np.allclose(found.selection.scores.column("score"), total, rtol=1e-6, atol=1e-9)


def test_prism_in_adams_steps_weighs_pairs_by_each_checkpoint(places: dict[str, Any], trained: Path) -> None:
    found = run(places, method="prism-adam", checkpoints=[str(trained)])
    total = np.zeros(len(TEXTS))
    for model, folder, rate in at_checkpoints(places, trained):
        sides = sides_of(model, places)[:2]
        losses = [losses_of(model, side)[:, 0] for side in sides]
        pi = 1 / (1 + np.exp(losses[0] - losses[1]))
        pairs = zip(*(gradients_of(model, side) for side in sides), strict=True)
        target = mean_of([w * (c - r) for w, (c, r) in zip(pi, pairs, strict=True)])
        mapped = [adam(model, folder, g) for g in gradients_of(model, samples_of(model))]
        total += rate * np.array([cosine(m, target) for m in mapped])
    assert np.allclose(found.selection.scores.column("score"), total, rtol=1e-6, atol=1e-9)


def test_dpo_without_a_warm_up_weighs_every_pair_one_half(places: dict[str, Any]) -> None:
    model = load_model(places["model"], dtype="float64", device="cpu")
    objective = Objective("dpo", WEIGHTINGS["uniform"])
    measured = measure_target(model, load_target(places["target"]), model.encoder(), objective=objective)
    assert measured.table.column("weight").to_pylist() == [0.5] * 4
    chosen, rejected, _ = sides_of(model, places)
    pairs = zip(gradients_of(model, chosen, mean=False), gradients_of(model, rejected, mean=False), strict=True)
    expected = mean_of([0.1 * 0.5 * (c - r) for c, r in pairs])
    gap = flat(dict(measured.direction.tensors)) - expected
    assert gap.norm() <= 1e-6 * expected.norm()  # Llama norms compute in float32


def test_tracin_sums_products_over_checkpoints(places: dict[str, Any], trained: Path) -> None:
    found = run(places, method="tracin", checkpoints=[str(trained)])
    total = np.zeros(len(TEXTS))
    for model, _, rate in at_checkpoints(places, trained):
        target = torch.stack(gradients_of(model, sides_of(model, places)[0])).mean(0)
        total += rate * np.array([float(g @ target) for g in gradients_of(model, samples_of(model))])
    assert np.allclose(found.selection.scores.column("score"), total, rtol=1e-6, atol=1e-6 * np.abs(total).max())


def test_a_recipe_of_ones_own_is_a_row_and_nothing_else(places: dict[str, Any], tmp_path: Path) -> None:
    """A method that nobody wrote: it comes as YAML, and equals what autograd says of its definition."""
    file = tmp_path / "mine.yaml"
    file.write_text("target: pair\nweight: prism^2\naggregate: subtask-mean\ncandidate-map: sign\nnormalise: token\n")
    found = run(places, method=str(file))
    model = load_model(places["model"], dtype="float64", device="cpu")
    chosen, rejected, subtasks = sides_of(model, places)
    losses = [losses_of(model, side)[:, 0] for side in (chosen, rejected)]
    pi = 1 / (1 + np.exp(losses[0] - losses[1]))
    pairs = zip(gradients_of(model, chosen), gradients_of(model, rejected), strict=True)
    terms = [w**2 * (c - r) for w, (c, r) in zip(pi, pairs, strict=True)]
    groups = [mean_of([t for t, s in zip(terms, subtasks, strict=True) if s == k]) for k in "ab"]
    samples = samples_of(model)
    expected = [
        np.mean([float(g.sign() @ k) for k in groups]) / sample.response_tokens
        for g, sample in zip(gradients_of(model, samples, mean=False), samples, strict=True)
    ]
    assert np.allclose(found.selection.scores.column("score"), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    with pytest.raises(ConfigError, match="sign map is not linear"):
        explain_row(Path(places["out"]), str(found.selection.ids[0]))


@pytest.mark.parametrize("name", ["prism-cosine", "prism-mean", "uniform", "chosen"])
def test_ablations_of_prism(places: dict[str, Any], name: str) -> None:
    found = run(places, method=name)
    model = load_model(places["model"], dtype="float64", device="cpu")
    chosen, rejected, _ = sides_of(model, places)
    losses = [losses_of(model, side)[:, 0] for side in (chosen, rejected)]
    pi = 1 / (1 + np.exp(losses[0] - losses[1])) if name != "uniform" else np.ones(4)
    pairs = zip(gradients_of(model, chosen), gradients_of(model, rejected), strict=True)
    target = mean_of([w * (c if name == "chosen" else c - r) for w, (c, r) in zip(pi, pairs, strict=True)])
    candidates = gradients_of(model, samples_of(model), mean=name == "prism-mean")
    expected = [cosine(g, target) if name == "prism-cosine" else float(g @ target) for g in candidates]
    assert np.allclose(found.selection.scores.column("score"), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("change", ["normalise: cosine", "candidate_loss: mean", "normalise: token\ncurvature: ekfac"])
def test_tokens_make_the_scores_of_methods_that_divide(places: dict[str, Any], change: str, trained: Path) -> None:
    """Each token's own gradient against the direction, divided by what the row is divided by."""
    file = Path(places["out"]).parent / "divides.yaml"
    file.write_text(change + "\n")
    at = trained / "checkpoint-3"
    found = run(places, method=str(file), checkpoints=[str(at)])
    model = load_model(places["model"], adapter=at, dtype="float64", device="cpu")
    kept = Path(places["out"]) / "checkpoints" / "001" / "curvature"
    fitted = {f.name: f.stat().st_mtime_ns for f in kept.glob("*")}
    samples = samples_of(model)
    ids = found.selection.scores.table.column("id").to_pylist()
    views, pulls = explain_rows(Path(places["out"]), ids, pulls=True)
    assert pulls is not None and len(views) == len(samples)
    scores = found.selection.scores.column("score")
    for view, sample, score in zip(views, samples, scores, strict=True):
        assert view["score"] == pytest.approx(score, rel=1e-6)
        assert len(view["tokens"]) == sample.response_tokens
        if "ekfac" in change:
            continue
        of_tokens = []
        for place in range(sample.response_tokens):
            with model.requiring_grad():
                of_tokens.append(flat(oracle.gradients(model, oracle.token_losses(model.network, sample)[place])))
        direction = flat(dict(found.target.direction.tensors))
        whole = torch.stack(of_tokens).sum(0)
        size = float(whole.norm() * direction.norm()) if "cosine" in change else len(of_tokens)
        right = [float(g @ direction) / size for g in of_tokens]
        got = [token["contribution"] for token in view["tokens"]]
        assert np.allclose(got, right, rtol=1e-6, atol=1e-7 * np.abs(right).max())
    assert np.allclose(pulls.contributions.sum(1), scores, rtol=1e-5, atol=1e-7 * np.abs(scores).max())
    assert fitted == {f.name: f.stat().st_mtime_ns for f in kept.glob("*")}, "the curvature was fitted anew"
    assert bool(fitted) == ("ekfac" in change) and not (Path(places["out"]) / "curvature").exists()


def test_more_subtasks_than_there_is_memory_for(places: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "groups.yaml"
    file.write_text("aggregate: subtask-max\n")
    with pytest.raises(ConfigError, match=r"directions of 2 subtasks take .* --direction-memory 10KB: raise"):
        run(places, method=str(file), direction_memory="10KB")
    notes = Notes()
    run_select(SelectConfig(**{**places, "method": str(file), "direction_memory": "1MB"}), notes)
    weights = sum(p.numel() for p in load_model(places["model"], dtype="float64", device="cpu").parameters.values())
    assert f"the directions of 2 subtasks take {2 * 2 * 8 * weights / 1e9:.2g} GB" in notes.notes


def test_what_a_method_lacks_is_said_before_anything_is_scored(places: dict[str, Any], trained: Path) -> None:
    for method, needs in (("prism-cosine", "gradient norms"), ("less", "sample gradients|gradient norms")):
        with pytest.raises(ConfigError, match=rf"{method} needs ({needs}), which --engine forward"):
            run(places, method=method, engine="forward", checkpoints=[str(trained)] if method == "less" else [])
    (trained / "checkpoint-6" / "optimizer.pt").unlink()
    with pytest.raises(ModelError, match=r"checkpoint-6 holds no optimizer state"):
        run(places, method="less", checkpoints=[str(trained)])
    assert not (Path(places["out"]) / "checkpoints").exists()


def test_round_robin_takes_turns(places: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "turns.yaml"
    file.write_text("aggregate: subtask-round-robin\n")
    found = run(places, method=str(file))
    scores = found.selection.scores.column("score")
    assert sorted(scores) == list(range(-len(TEXTS), 0))
    matrix = np.stack(pq.read_table(Path(places["out"]) / "groups.parquet")["scores"].to_pylist())
    assert scores[matrix[:, 0].argmax()] == -1
    if matrix[:, 0].argmax() != matrix[:, 1].argmax():
        assert scores[matrix[:, 1].argmax()] == -2


def test_a_target_without_rejected(places: dict[str, Any], write_jsonl: Write, pair_rows: Rows) -> None:
    bare = [{"prompt": row["prompt"], "chosen": row["chosen"]} for row in pair_rows]
    forms = [*bare[:2], *chats(TEXTS[2:4])]
    alone = write_jsonl("alone.jsonl", forms)
    spec = Path(places["out"]).parent / "chosen.yaml"
    spec.write_text("target: chosen\nweight: uniform\n")
    with_pairs = run(places, method=str(spec)).selection.scores.column("score")
    without = run({**places, "target": [str(alone)], "out": places["out"] + "2"}, method=str(spec))
    assert np.allclose(with_pairs, without.selection.scores.column("score"), rtol=1e-9)
    assert not without.summary["target"]["preference"]
    with pytest.raises(PrismError, match=r"no 'rejected' field.*see prism methods"):
        run({**places, "target": [str(alone)], "out": places["out"] + "3"})


def test_a_killed_run_goes_on(places: dict[str, Any], trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before its second checkpoint, it scores that one alone, and ends as it would have."""
    whole = run({**places, "out": places["out"] + "-whole"}, method="less", checkpoints=[str(trained)])
    real = score_groups
    calls: list[int] = []

    def stop_at_the_second(*args: Any, **more: Any) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr("prism.run.recipes.score_groups", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(places, method="less", checkpoints=[str(trained)])

    def counted(*args: Any, **more: Any) -> int:
        calls.append(1)
        return real(*args, **more)

    monkeypatch.setattr("prism.run.recipes.score_groups", counted)
    again = run(places, method="less", checkpoints=[str(trained)])
    assert len(calls) == 3
    names = ("score", "flag", "id")
    for name in names:
        assert np.array_equal(again.selection.scores.column(name), whole.selection.scores.column(name))
    with pytest.raises(PrismError, match="changed since: method "):
        run(places, method="tracin", checkpoints=[str(trained)])
    with pytest.raises(PrismError, match="another run"):
        run(places, method="less", checkpoints=[str(trained / "checkpoint-6")])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("base: nope", "builds on 'nope'"),
        ("weigth: prism", "weigth: is no field of a method"),
        ("weight: prism^x", "prism\\^GAMMA"),
        ("target: both", "target: Input should be"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "can't be read"),
        ("curvature: fisher", "curvature: Input should be"),
        ("weight: chosen", "write target: chosen"),
    ],
)
def test_malformed_recipes(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load_recipe(file, RECIPES)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"method": "less"}, "prism warmup"),
        ({"method": "lesss"}, "there is no method 'lesss'"),
        ({"method": "random", "pair_scores": True}, "uses no gradients: drop --pair-scores"),
        ({"method": "prism-cosine", "pair_scores": True}, "divides scores"),
        ({"method": "prism", "checkpoints": ["nowhere"]}, "nowhere"),
        ({"method": "prism", "aggregate": "max"}, "--aggregate is for baselines"),
    ],
)
def test_what_a_method_has_no_use_for(places: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    with pytest.raises(PrismError, match=reason):
        run(places, **more)
    assert not (Path(places["out"]) / "manifest.json").exists()


def test_only_methods_with_pairs_of_their_own_can_be_reweighed(places: dict[str, Any]) -> None:
    run(places, method="uniform", pair_scores=True)
    as_prism = reweigh(Path(places["out"]), "prism").selection.scores.column("score")
    plain = run({**places, "out": places["out"] + "2"}).selection.scores.column("score")
    assert np.allclose(as_prism, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    run({**places, "out": places["out"] + "3"}, method="random")
    with pytest.raises(ConfigError, match="uses no gradients"):
        reweigh(Path(places["out"] + "3"), "prism")


def test_every_row_says_what_it_is() -> None:
    for name, method in METHODS.items():
        assert find_method(name) is method
        assert method.about and method.formula and method.source and method.cost
    assert RECIPES["prism"].plain and RECIPES["prism"].objective == Objective()
    assert Recipe(name="x").formula == RECIPES["prism"].formula
