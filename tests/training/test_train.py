import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prism.config import SelectConfig
from prism.data import load_pool
from prism.errors import ConfigError, DataError, ModelError, RunError, TrainingError
from prism.model import load_model
from prism.training import TrainConfig, base_place, train, trained_place
from prism.training.watch import Watch
from tests import oracle
from tests.conftest import Rows

pytest.importorskip("trl")
Write = Callable[[str, Rows], Path]


@pytest.fixture
def job(tmp_path: Path, model_folder: Path, pool_rows: Rows, write_jsonl: Write) -> Callable[..., TrainConfig]:
    data = write_jsonl("sft.jsonl", pool_rows)

    def config(**changes: Any) -> TrainConfig:
        fields = {"data": [str(data)], "model": str(model_folder), "out": str(tmp_path / "out"), "device": "cpu"}
        more = {"epochs": 3, "batch": 2, "device_batch": 2, "learning_rate": 1e-2}
        return TrainConfig.model_validate({**fields, **more, **changes})

    return config


Job = Callable[..., TrainConfig]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(next(folder.glob("*.safetensors")))
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def mean_loss(place: tuple[str, str | None], rows: Rows) -> float:
    model = load_model(place[0], adapter=place[1])
    encoder = model.encoder()
    with torch.no_grad():
        losses = [oracle.token_losses(model.network, encoder.row(row)) for row in load_pool(rows)]
    return float(torch.cat(losses).mean())


def test_the_same_training_gives_the_same_weights(job: Job, tmp_path: Path, pool_rows: Rows) -> None:
    first = train(job())
    torch.rand(3)  # whatever was drawn before
    second = train(job(out=str(tmp_path / "again")))
    other = train(job(out=str(tmp_path / "other"), seed=1))
    assert same(weights(first.folder), weights(second.folder))
    assert not same(weights(first.folder), weights(other.folder))
    assert first.model_place == (str(tmp_path / "out"), None) == trained_place(tmp_path / "out")
    before = mean_loss((str(job().model), None), pool_rows)
    assert mean_loss(first.model_place, pool_rows) < 0.9 * before
    record = json.loads((first.folder / "train.json").read_text())
    assert record == first.summary and record["status"] == "done" and record["full"]
    assert record["steps"] == 12 and record["data"]["rows"] == len(pool_rows)
    assert record["tokens_seen"] == 3 * record["data"]["tokens"]
    assert len(record["losses"]) == 12 and record["loss_last"] < record["loss_first"]
    assert not (first.folder / "checkpoints").exists() and not (first.folder / "tokens.arrow").exists()


def test_a_lora_goes_onto_all_linear_layers_and_the_base_stays(job: Job, model_folder: Path, pool_rows: Rows) -> None:
    base = weights(model_folder)
    done = train(job(full=False, lora_rank=3, lora_dropout=0.1))
    assert done.model_place == (str(model_folder), str(done.folder)) and same(weights(model_folder), base)
    assert base_place(done.folder) == (str(model_folder), None, None)
    names = {name.partition(".lora_")[0].rpartition(".")[2] for name in weights(done.folder)}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert done.summary["settings"]["lora"] == {"rank": 3, "alpha": 6, "dropout": 0.1}
    once = mean_loss(done.model_place, pool_rows)
    assert once < mean_loss((str(model_folder), None), pool_rows)
    # The adapter can be gone on with, and it can be merged.
    more = {"adapter": str(done.folder), "full": None}
    on = train(job(out=str(done.folder.parent / "on"), **more))
    assert on.model_place == (str(model_folder), str(on.folder)) and mean_loss(on.model_place, pool_rows) < once
    whole = train(job(out=str(done.folder.parent / "whole"), adapter=str(done.folder), full=True))
    assert whole.model_place[1] is None and whole.summary["loss_first"] == pytest.approx(
        on.summary["loss_first"], rel=1e-3
    )


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(job(out=str(tmp_path / "whole"), checkpoints=4))
    step = Watch.on_step_end

    def killed(self: Watch, args: Any, state: Any, control: Any, **more: Any) -> None:
        step(self, args, state, control, **more)
        if state.global_step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "on_step_end", killed)
    with pytest.raises(KeyboardInterrupt):
        train(job(checkpoints=4))
    with pytest.raises(RunError, match="is not finished: the same prism train command goes on"):
        trained_place(tmp_path / "out")
    monkeypatch.setattr(Watch, "on_step_end", step)
    checkpoints = tmp_path / "out" / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-6"]
    shutil.copytree(checkpoints / "checkpoint-6", checkpoints / "checkpoint-8")
    state = checkpoints / "checkpoint-8" / "trainer_state.json"
    state.write_text(state.read_text()[:100])  # a kill in the middle of a checkpoint
    with pytest.raises(RunError, match=r"changed since: option epochs: 3\.0 → 4\.0"):
        train(job(checkpoints=4, epochs=4))
    done = train(job(checkpoints=4))
    assert same(weights(done.folder), weights(whole.folder))
    assert done.summary["losses"] == whole.summary["losses"]
    assert done.summary["tokens_seen"] == whole.summary["tokens_seen"]
    before = (tmp_path / "out" / "train.json").read_bytes()
    assert train(job(checkpoints=4)).summary == done.summary  # nothing is left to do
    assert (tmp_path / "out" / "train.json").read_bytes() == before


def test_a_training_that_diverges_is_stopped_and_leaves_the_folder_free(job: Job, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverged at step \d+ of 60: .*Lower --learning-rate"):
        train(job(epochs=15, learning_rate=1e30, trainer={"max_grad_norm": 0.0}))
    assert not (tmp_path / "out" / "train.json").exists() and not (tmp_path / "out" / "checkpoints").exists()
    with pytest.raises(RunError, match="not the folder of a training"):
        trained_place(tmp_path / "out")
    assert train(job(epochs=1)).summary["status"] == "done"


def test_out_of_memory_takes_fewer_samples_at_a_time(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import SFTTrainer

    step = SFTTrainer.training_step

    def small(self: Any, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return step(self, model, inputs, *rest, **more)

    wanted = train(job(out=str(tmp_path / "two"), batch=4, device_batch=2))
    monkeypatch.setattr(SFTTrainer, "training_step", small)
    done = train(job(batch=4, device_batch=4))
    assert done.summary["settings"]["device_batch"] == 2
    assert same(weights(done.folder), weights(wanted.folder))


def test_a_runs_selection_is_trained_on_with_the_runs_own_options(
    tmp_path: Path, model_folder: Path, pool_rows: Rows, pair_rows: Rows, write_jsonl: Write
) -> None:
    from prism.run.select import run_select

    pool = write_jsonl(
        "pool.jsonl", [{"q": r["messages"][0]["content"], "a": r["messages"][1]["content"]} for r in pool_rows]
    )
    target = write_jsonl("pairs.jsonl", pair_rows)
    columns = {"prompt": "q", "completion": "a"}
    run = run_select(
        SelectConfig.model_validate(
            {"model": str(model_folder), "pool": [str(pool)], "target": [str(target)], "out": str(tmp_path / "run")}
            | {"budget": "3", "columns": columns, "plain": True, "max_length": 40, "device": "cpu"}
        )
    )
    done = train(TrainConfig.model_validate({"data": [str(run.folder)], "out": str(run.folder / "sft"), "epochs": 1}))
    assert done.summary["data"]["run"] == str(run.folder) and done.summary["data"]["rows"] == 3
    assert done.summary["settings"]["plain"] and done.summary["settings"]["max_length"] == 40
    assert done.summary["base"]["model"] == str(model_folder)
    encoder = load_model(model_folder).encoder(plain=True, max_length=40)
    assert done.summary["data"]["response_tokens"] == sum(
        encoder.row(row).response_tokens for row, _ in run.selection.rows()
    )
    (run.folder / "selected.jsonl").unlink()
    with pytest.raises(RunError, match="is not finished: it has no selection yet"):
        train(TrainConfig.model_validate({"data": [str(run.folder)], "out": str(tmp_path / "new")}))


def test_a_training_that_was_stopped_before_its_first_checkpoint_may_change(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train(job())
    assert train(job(epochs=1)).summary["settings"]["epochs"] == 1


def test_overlap_with_held_out_pairs_is_recorded(
    job: Job, pair_rows: Rows, pool_rows: Rows, write_jsonl: Write
) -> None:
    held_out = write_jsonl("held.jsonl", pair_rows)
    done = train(job(held_out=[str(held_out)], epochs=1))
    assert done.summary["overlap"]["exact"] == len(pair_rows)


def test_bad_rows_are_set_aside_and_said(job: Job, pool_rows: Rows, write_jsonl: Write) -> None:
    data = write_jsonl("bad.jsonl", [pool_rows[0], {"x": 1}, pool_rows[1]])
    done = train(job(data=[str(data)], epochs=1))
    assert (done.summary["data"]["rows"], done.summary["data"]["rejected"]) == (2, 1)
    assert "unknown form" in json.loads((done.folder / "rejected.jsonl").read_text())["reason"]


def refused(kind: type[Exception], message: str, config: TrainConfig) -> None:
    with pytest.raises(kind, match=message):
        train(config)
    assert not (Path(config.out) / "train.json").exists()


def test_what_cannot_be_trained_is_refused(job: Job, tmp_path: Path, write_jsonl: Write, model_folder: Path) -> None:
    refused(DataError, "there is nothing to train on", job(data=[str(write_jsonl("empty.jsonl", []))]))
    refused(DataError, "all 1 rows to train on were rejected", job(data=[str(write_jsonl("x.jsonl", [{"x": 1}]))]))
    refused(DataError, "bad row in", job(data=[str(write_jsonl("y.jsonl", [{"x": 1}]))], on_bad_row="stop"))
    refused(DataError, "does not exist", job(data=[str(tmp_path / "none.jsonl")]))
    refused(ConfigError, "--model: is required", job(model=None))
    refused(ConfigError, "--full trains all weights", job(full=True, lora_rank=4))
    refused(ConfigError, "device 'cuda' can't be used here", job(device="cuda"))
    refused(ModelError, "is not a PEFT adapter", job(adapter=str(model_folder)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    refused(RunError, r"holds other files \(thesis.txt, …\) but no training of ours", job(out=str(tmp_path / "full")))


def test_the_way_to_install_trl_is_said(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trl", None)
    with pytest.raises(ConfigError, match=r"training needs TRL: pip install 'prism-select\[train\]'"):
        train(job())


def test_one_row_and_many_epochs(job: Job, write_jsonl: Write) -> None:
    row = {"prompt": "☀" * 3, "completion": "Übermut\u2028tut selten gut. 👍"}
    done = train(job(data=[str(write_jsonl("one.jsonl", [row]))], epochs=2, batch=64, device_batch=64))
    assert done.summary["steps"] == 2


def test_a_training_of_a_single_step_trains(job: Job, model_folder: Path, write_jsonl: Write, pool_rows: Rows) -> None:
    data = write_jsonl("one.jsonl", pool_rows[:1])
    trained = train(job(data=[str(data)], epochs=1, full=True))
    assert trained.summary["steps"] == 1
    assert not same(weights(trained.folder), weights(model_folder))


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_lora_on_a_base_in_few_bits(job: Job, pool_rows: Rows, tmp_path: Path, bits: Any) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quantize")
    config = job(quantize=bits, dtype="float32", batch=len(pool_rows), device_batch=len(pool_rows))
    assert config.model is not None
    done = train(config)
    kept = load_model(config.model, quantize=bits, dtype="float32")  # its new LoRA adds nothing yet
    encoder = kept.encoder()
    with torch.no_grad():
        losses = torch.cat([oracle.token_losses(kept.network, encoder.row(row)) for row in load_pool(pool_rows)])
    assert done.summary["loss_first"] == pytest.approx(float(losses.mean()), rel=1e-3 if bits == "4bit" else 2e-2)
    assert done.summary["loss_last"] < done.summary["loss_first"] and not done.summary["full"]
    assert done.summary["base"]["quantize"] == bits
    assert all(tensor.dtype == torch.float32 for tensor in weights(done.folder).values())
    with pytest.raises(ConfigError, match="--full trains all weights, and --quantize leaves none"):
        train(job(quantize=bits, full=True, out=str(tmp_path / "full")))
