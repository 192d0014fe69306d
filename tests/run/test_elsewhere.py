"""Runs whose pairs another model weighs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

import prism
from prism.config import SelectConfig
from prism.data import load_pool, load_target
from prism.errors import ConfigError, ModelError, RunError
from prism.run.estimate import estimate_run
from prism.run.reweigh import reweigh
from prism.run.select import Run, finished_run, run_select
from prism.run.together import score_together
from tests.conftest import tiny_llama
from tests.run.test_select import Notes


@pytest.fixture
def other(tmp_path: Path, tokenizer: Any) -> Path:
    """The same model with other weights, without a tokenizer of its own."""
    folder = tmp_path / "other"
    network = tiny_llama(len(tokenizer))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path: Path, model_folder: Path, tokenizer: Any) -> Path:
    torch.manual_seed(8)
    network = get_peft_model(tiny_llama(len(tokenizer)), LoraConfig(r=4, target_modules=["down_proj", "o_proj"]))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    network.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def column(run: Run, name: str) -> Any:
    return run.target.table.column(name).to_numpy()


@pytest.mark.parametrize("kind", ["other", "adapter"])
def test_weights_come_from_there_and_gradients_from_here(
    config: SelectConfig, kind: str, request: pytest.FixtureRequest
) -> None:
    there: Path = request.getfixturevalue(kind)
    place = {"model": str(there), "tokenizer": config.model} if kind == "other" else {"adapter": str(there)}
    own = run_select(config.model_copy(update={"out": f"{config.out}-own", "pair_scores": True}))
    theirs = run_select(config.model_copy(update={**place, "out": f"{config.out}-theirs"}))
    notes = Notes()
    mixed_config = config.model_copy(update={"preference_from": str(there)})
    mixed = run_select(mixed_config, notes)
    assert f"the pairs are weighed by the preferences of {there}" in notes.notes
    np.testing.assert_allclose(column(mixed, "preference"), column(theirs, "preference"), rtol=1e-6)
    np.testing.assert_allclose(column(mixed, "weight"), column(theirs, "preference"), rtol=1e-6)
    assert np.abs(column(mixed, "preference") - column(own, "preference")).max() > 1e-3
    for name in ("loss_chosen", "loss_rejected"):
        np.testing.assert_allclose(column(mixed, name), column(own, name), rtol=1e-6)
    assert mixed.summary["selection"]["gain"] is None  # no step in K: the weights are not the model's own

    with finished_run(own.folder) as (_, folder, _, _):
        expected = folder.pair_scores().weighted(column(theirs, "preference"))
    np.testing.assert_allclose(mixed.selection.scores.column("score"), expected, rtol=1e-4, atol=1e-6)

    shared = [
        mixed_config.model_copy(update={"out": f"{config.out}-{name}", "method": name})
        for name in ("prism", "prism-sharp")
    ]
    dict(score_together(shared, Notes()))
    again = run_select(shared[0])
    np.testing.assert_allclose(
        again.selection.scores.column("score"), mixed.selection.scores.column("score"), rtol=1e-4, atol=1e-6
    )


def test_reweighing_goes_by_the_same_preferences(config: SelectConfig, other: Path) -> None:
    run = run_select(config.model_copy(update={"preference_from": str(other), "pair_scores": True}))
    sharp = config.model_copy(update={"preference_from": str(other), "method": "prism-sharp", "out": f"{config.out}-3"})
    expected = run_select(sharp).selection
    assert reweigh(run.folder, "prism^3").selection.places.tolist() == expected.places.tolist()


def test_what_it_refuses(config: SelectConfig, other: Path, tmp_path: Path) -> None:
    def change(**fields: Any) -> SelectConfig:
        return config.model_copy(update={"preference_from": str(other), **fields})

    with pytest.raises(ConfigError, match="the method uniform weighs all pairs alike"):
        run_select(change(method="uniform"))
    with pytest.raises(ConfigError, match="uses no gradients: drop --preference-from"):
        run_select(change(method="bm25"))
    with pytest.raises(ModelError, match="nowhere"):
        run_select(change(preference_from="/nowhere"))
    network = tiny_llama(50)
    network.save_pretrained(tmp_path / "small")
    with pytest.raises(ModelError, match="small has another vocabulary than the scored model: it can't read"):
        run_select(change(preference_from=str(tmp_path / "small")))
    shutil.copytree(other, tmp_path / "words")
    words = json.loads((Path(config.model) / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    (a, first), (b, second) = list(vocabulary.items())[100:102]
    vocabulary[a], vocabulary[b] = second, first
    (tmp_path / "words" / "tokenizer.json").write_text(json.dumps(words))
    shutil.copy(Path(config.model) / "tokenizer_config.json", tmp_path / "words")
    with pytest.raises(ModelError, match="words has another vocabulary"):
        run_select(change(preference_from=str(tmp_path / "words")))
    for method in ("prism", "prism-cosine"):
        with pytest.raises(ModelError, match="words has another vocabulary"):
            estimate_run(change(preference_from=str(tmp_path / "words"), method=method))
    run_select(change())
    with pytest.raises(RunError, match="preference_from"):  # the folder holds a run that others weighed
        run_select(config)


def test_the_last_checkpoint_of_a_warm_up(config: SelectConfig, adapter: Path, other: Path, tmp_path: Path) -> None:
    warm = tmp_path / "warm"
    shutil.copytree(other, warm / "checkpoint-2")
    shutil.copytree(adapter, warm / "checkpoint-10")
    notes = Notes()
    run = run_select(config.model_copy(update={"preference_from": str(warm)}), notes)
    expected = run_select(config.model_copy(update={"preference_from": str(adapter), "out": f"{config.out}-2"}))
    assert f"the pairs are weighed by the preferences of {warm / 'checkpoint-10'}" in notes.notes
    assert column(run, "weight").tolist() == column(expected, "weight").tolist()


def test_an_adapter_of_prism_train_stays_on_its_own_base(
    config: SelectConfig, other: Path, adapter: Path, tmp_path: Path
) -> None:
    """Here a LoRA that was trained on `other`, with all its shapes those of the scored model."""
    trained = tmp_path / "trained"
    shutil.copytree(adapter, trained)
    record = {"identity": {}, "status": "done", "full": False, "base": {"model": str(other), "adapter": None}}
    (trained / "train.json").write_text(json.dumps(record))
    run = run_select(config.model_copy(update={"preference_from": str(trained)}))
    place = {"model": str(other), "adapter": str(adapter), "tokenizer": config.model}
    expected = run_select(config.model_copy(update={**place, "out": f"{config.out}-2"}))
    np.testing.assert_allclose(column(run, "weight"), column(expected, "preference"), rtol=1e-6)
    narrow = {"preference_from": str(adapter), "parameters": r"down_proj\.weight", "out": f"{config.out}-3"}
    run_select(config.model_copy(update=narrow))  # the parameters of the scored model are none of the other's business
    (trained / "train.json").write_text(json.dumps({**record, "status": "running"}))
    with pytest.raises(RunError, match="is not finished"):
        run_select(config.model_copy(update={"preference_from": str(trained), "out": f"{config.out}-4"}))


@pytest.mark.parametrize("method", ["prism", "prism-cosine"])
def test_from_python_as_from_the_command_line(config: SelectConfig, other: Path, tmp_path: Path, method: str) -> None:
    run = run_select(config.model_copy(update={"preference_from": str(other), "method": method}))
    model, pool, target = prism.load_model(config.model), load_pool(config.pool[0]), load_target(config.target[0])
    theirs = prism.load_model(other, tokenizer=config.model)
    scores = prism.score(model, pool, target, method=method, preference_from=theirs)
    expected = run.selection.scores.column("score")
    np.testing.assert_allclose(scores.column("score"), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(prism.score(model, pool, target, method=method).column("score") - expected).max() > 1e-3
    with pytest.raises(ConfigError, match="weighs all pairs alike"):
        prism.score(model, pool, target, method="uniform", preference_from=theirs)
    small = tmp_path / "small"
    tiny_llama(50).save_pretrained(small)
    with pytest.raises(ModelError, match="small has another vocabulary"):
        prism.score(model, pool, target, preference_from=prism.load_model(small, tokenizer=config.model))


def test_a_dry_run_loads_the_other_model_too(
    config: SelectConfig, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prism.run.trial.LONG_ENOUGH", 0.2)
    notes = Notes()
    estimate = estimate_run(config.model_copy(update={"preference_from": str(other)}), notes)
    assert f"the pairs are weighed by the preferences of {other}" in notes.notes
    assert estimate["phases"]["target"] > 0
