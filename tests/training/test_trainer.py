from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prism.data import Encoded, load_pool
from prism.errors import ConfigError
from prism.model import Model
from prism.training.trainer import IGNORED, Settings, checked, make_trainer, write_tokens
from tests import oracle
from tests.conftest import Rows, tiny_gpt2, tiny_llama

pytest.importorskip("trl")


def encoded(model: Model, rows: Rows) -> list[Encoded]:
    encoder = model.encoder()
    return [encoder.row(row) for row in load_pool(rows)]


def trainer_of(model: Model, samples: list[Encoded], folder: Path, **changes: Any) -> Any:
    folder.mkdir(exist_ok=True)
    write_tokens(samples, folder / "tokens.arrow")
    settings = Settings(**{"epochs": 1, "learning_rate": 0.1, "batch": len(samples), "device_batch": 8, **changes})
    return make_trainer(model, folder / "tokens.arrow", folder / "checkpoints", settings)


def test_the_trainer_sees_scorings_tokens_and_mask(tokenizer: Any, pool_rows: Rows, tmp_path: Path) -> None:
    long = {"prompt": "Count to many.", "completion": " ".join(str(n) for n in range(700))}  # beyond TRL's 1,024 tokens
    model = Model(tiny_llama(len(tokenizer), max_position_embeddings=4096), tokenizer, "all")
    samples = encoded(model, [*pool_rows, long])
    assert max(len(sample) for sample in samples) > 1024
    trainer = trainer_of(model, samples, tmp_path, batch=3, device_batch=3)
    seen = []
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            kept = mask.bool()
            assert (labels[~kept] == IGNORED).all()
            seen.append((tuple(ids[kept].tolist()), tuple(labels[kept].tolist())))
    wanted = [(tuple(s.ids.tolist()), tuple(np.where(s.response, s.ids, -100).tolist())) for s in samples]
    assert seen != wanted and sorted(seen) == sorted(wanted)  # shuffled, and nothing cut or dropped
    order = [len(ids) for ids, _ in seen]
    again = trainer_of(model, samples, tmp_path, batch=3, device_batch=3).get_train_dataloader()
    assert [n for batch in again for n in batch["attention_mask"].sum(1).tolist()] == order


@pytest.mark.parametrize("most", [0, 1 << 27], ids=["in tiles", "all logits"])
@pytest.mark.parametrize("family", [tiny_llama, tiny_gpt2])
def test_a_step_is_plain_gradient_descent_on_the_mean_response_token(
    tokenizer: Any, pool_rows: Rows, tmp_path: Path, family: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prism.training.cpu.MOST", most)
    dropless = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} if family is tiny_gpt2 else {}
    model = Model(family(len(tokenizer), **dropless), tokenizer, "all")
    samples = encoded(model, pool_rows)
    with model.requiring_grad():
        losses = torch.cat([oracle.token_losses(model.network, sample) for sample in samples])
        gradients = oracle.gradients(model, losses.mean())
    before = {name: p.detach().clone() for name, p in model.parameters.items()}
    more = {"optim": "sgd", "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 0.0}
    trainer = trainer_of(model, samples, tmp_path, device_batch=3, batch=9, more=more)  # in parts, the last of one row
    trainer.train()
    assert ("entropy" in trainer.state.log_history[0]) == (most == 0)  # which TRL alone measures
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(losses.detach().mean()), rel=1e-5)
    for name, parameter in model.parameters.items():
        step = before[name] - parameter.detach()
        torch.testing.assert_close(step, 0.1 * gradients[name], rtol=1e-3, atol=2e-6)


def test_another_loss_of_trls_stays_its_own(tokenizer: Any, pool_rows: Rows, tmp_path: Path) -> None:
    found = {}
    for loss in ("nll", "dft"):
        model = Model(tiny_llama(len(tokenizer)), tokenizer, "all")
        trainer = trainer_of(model, encoded(model, pool_rows), tmp_path / loss, more={"loss_type": loss})
        trainer.train()
        found[loss] = trainer.state.log_history[0]
    assert "entropy" in found["dft"] and found["dft"]["loss"] < 0.1 * found["nll"]["loss"]  # p log p of unlikely tokens


def test_the_tokenizer_and_the_config_stay_as_they_are(tokenizer: Any, pool_rows: Rows, tmp_path: Path) -> None:
    model = Model(tiny_llama(len(tokenizer)), tokenizer, "all")
    network = model.network

    def facts() -> list[Any]:
        ids = [getattr(network.config, f"{name}_token_id") for name in ("pad", "bos", "eos")]
        return [
            tokenizer.pad_token,
            tokenizer.eos_token,
            tokenizer.chat_template,
            ids,
            network.generation_config.to_dict(),
        ]

    tokenizer.pad_token, before = None, tokenizer.pad_token
    try:
        found = facts()
        trainer_of(model, encoded(model, pool_rows), tmp_path)
        assert facts() == found
    finally:
        tokenizer.pad_token = before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weight_decy": 0.1}, r"--trainer weight_decy: TRL has no such setting \(is it weight_decay\?\)"),
        ({"max_grad_norm": "much"}, "--trainer max_grad_norm=much: Input should be a valid number"),
        ({"learning_rate": 1}, "--trainer learning_rate: use --learning-rate instead"),
        ({"packing": True}, "--trainer packing: rows are tokenised as scoring does it"),
        ({"logging_strategy": "no"}, "--trainer logging_strategy: the training is watched"),
        ({"logging_first_step": False}, "--trainer logging_first_step: the training is watched"),
        ({"max_steps": 0}, "--trainer max_steps=0: no step would be taken"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(more: dict[str, Any], message: str) -> None:
    from trl import SFTConfig

    with pytest.raises(ConfigError, match=message):
        checked(more, SFTConfig)


def test_what_trl_itself_refuses_is_an_error_of_ours(tokenizer: Any, pool_rows: Rows, tmp_path: Path) -> None:
    model = Model(tiny_llama(len(tokenizer)), tokenizer, "all")
    with pytest.raises(ConfigError, match="TRL refuses"):
        trainer_of(model, encoded(model, pool_rows), tmp_path, more={"optim": "no-such"})
    if find_spec("wandb") is None:
        with pytest.raises(ConfigError, match="wandb"):
            trainer_of(model, encoded(model, pool_rows), tmp_path, more={"report_to": "wandb"})
