"""`prism warmup`: a short training on a random share of the pool, whose checkpoints are kept with Adam's moments.

Influence is a matter of the model that it is measured on, and LESS (arXiv 2402.04333) measures it along
such a training: at N checkpoints, weighted by their learning rates, in the coordinates of their optimizer.
"""

import json
import shutil
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from transformers.trainer_callback import TrainerCallback

from prism import __version__
from prism.budget import Budget
from prism.circumstances import circumstances, numbered, version_of
from prism.data import Pool, open_pool
from prism.errors import BadRow, ConfigError, ModelError, first_line, stopped_at
from prism.methods.checkpoints import STATE, WARMUP, logged_rate
from prism.model import find_model
from prism.model.load import choose_device
from prism.model.quiet import quiet_transformers
from prism.progress import Progress, recorded
from prism.training.config import TrainConfig
from prism.training.folder import TrainFolder, require_one_process
from prism.training.job import LIBRARIES, MACHINE, Record, encode_rows, fit, notices_of, plain
from prism.training.material import MODEL
from prism.training.network import Ready, make_ready
from prism.training.trainer import Settings, checked, require_trl
from prism.training.warmup_config import WarmupConfig
from prism.training.watch import WINDOW

LARGE = 3e9  # weights: from here on LESS's own rate, which was set on 7B and 13B
LESS_RATE, LESS_WARMUP = 2e-5, 0.03


class WarmupFolder(TrainFolder):
    """The files of a warm-up: its checkpoints lie beside its record."""

    record_name = WARMUP
    what = "warm-up"

    @property
    def checkpoints(self) -> Path:
        return self.path

    def drop_checkpoints(self) -> None:
        for folder in self.path.glob("checkpoint-*"):
            shutil.rmtree(folder)


class SaveEvenly(TrainerCallback):  # type: ignore[misc]
    """Saves `count` checkpoints, evenly spaced, the last one at the end."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._steps: set[int] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._count > state.max_steps:
            raise ConfigError(
                f"--checkpoints: {self._count} of a warm-up that has {state.max_steps} steps in all: ask for fewer, or "
                "take a larger --share, more --epochs or a smaller --batch"
            )
        self._steps = {round(i * state.max_steps / self._count) for i in range(1, self._count + 1)}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step in self._steps


def warmup(config: WarmupConfig, progress: Progress | None = None) -> Path:
    """Train on a random share of the pool; returns the folder with `checkpoint-*/` and `warmup.json`, which lists them
    with their steps and the mean learning rates of these.

    The same call goes on with a warm-up that was stopped, from its last checkpoint, and returns one that is finished.

    Raises:
        TrainingError: the loss is not finite or explodes; nothing of the training is kept.
        RunError: the folder holds something else.
        PrismError: with what is wrong and what to do.
    """
    progress = recorded(progress)
    require_one_process()
    checked(config.trainer, require_trl()[1])
    config = config.absolute()
    with WarmupFolder(Path(config.out)) as folder:
        _warm_up(config, folder, progress)
        return folder.path


def _warm_up(config: WarmupConfig, folder: WarmupFolder, progress: Progress) -> None:
    began = time.monotonic()
    pool = open_pool(config.pool, columns=config.columns, on_bad_row=config.on_bad_row)
    folder.claim(_identity(config, pool), circumstances(config.seed), MACHINE)
    if folder.finished:
        progress.note(f"{folder.path} holds this warm-up already: nothing is left to do")
        return
    try:
        places = sample_places(pool, config.share, config.seed)
        progress.note(f"loading {config.model}")
        training = _training(config)
        ready = make_ready(training)
        encoder = ready.model.encoder(max_length=config.max_length, responses=config.responses, plain=config.plain)
        data = encode_rows(pool.pick(places), pool, encoder, folder)
        settings = _settings(config, ready, data["rows"])
        for notice in (*ready.model.notices, *notices_of(data, ready, settings)):
            progress.note(notice)
        count = config.checkpoints or max(1, round(config.epochs))
        config.save(folder.path / "config.yaml", "warmup")
        trainer, ready, settings = fit(training, ready, folder, data["rows"], settings, progress, [SaveEvenly(count)])
    except Exception:
        if folder.record is not None and folder.last_checkpoint() is None:
            folder.forget()  # nothing to lose: an option may change now
        raise
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    last = fmean(losses[-WINDOW:])
    progress.note(f"loss {losses[0]:.4g} → {last:.4g} nats per token")
    assert folder.record is not None
    folder.write(
        {
            **folder.record,
            "status": "done",
            "full": ready.full,
            "base": {name: getattr(config, name) for name in MODEL},
            "checkpoints": _listed(folder.path),
            "data": {"share": config.share, "pool": len(pool), **data},
            "parameters": ready.parameters,
            "trained_parameters": sum(p.numel() for p in ready.model.parameters.values()),
            "settings": plain(settings, ready, training),
            "steps": trainer.state.global_step,
            "loss_first": losses[0],
            "loss_last": last,
            "device": str(ready.model.device),
            "seconds": round(time.monotonic() - began, 3),
        }
    )


def sample_places(pool: Pool, share: str, seed: int) -> list[int]:
    """Places, in order, of a random share of the pool's good rows; `Rows.pick` reads them.

    Raises:
        ConfigError: the share is above the pool.
        DataError: the pool has no good row, or a bad one where it stops at those.
    """
    good: list[int] = []
    for place, row in enumerate(pool.read()):
        if not isinstance(row, BadRow):
            good.append(place)
        elif pool.on_bad_row == "stop":
            raise stopped_at(row)
    if not good:
        pool.require_rows("pool")
    budget = Budget.parse(share)
    if budget.unit == "samples" and budget.amount > len(good):
        raise ConfigError(f"--share: {budget.amount} rows are more than the pool's {len(good)}")
    count, _ = budget.resolve(len(good), 0)
    return sorted(map(int, np.random.default_rng(seed).choice(good, count, replace=False)))


def _training(config: WarmupConfig) -> TrainConfig:
    """With a LoRA of LESS's proportions where none is described: rank 128 for a width of 1,024 and more, alpha four
    times the rank."""
    if config.full:
        return config.training(lora_dropout=0.0)
    if config.adapter is not None:
        return config.training()
    rank = config.lora_rank or _rank(config)
    return config.training(lora_rank=rank, lora_alpha=config.lora_alpha or 4 * rank)


def _rank(config: WarmupConfig) -> int:
    """The greatest power of two that is at most an eighth of the model's width, from 8 to 128."""
    from transformers import AutoConfig

    places = find_model(config.model, revision=config.revision, allow_pickle=config.allow_pickle)
    with quiet_transformers():
        try:
            found = AutoConfig.from_pretrained(places.model, trust_remote_code=config.trust_remote_code)
        except Exception as error:
            raise ModelError(f"the model {config.model} can't be loaded: {first_line(error)}") from error
    width = getattr(found.get_text_config(), "hidden_size", 1024)
    return max(8, min(128, 1 << (max(1, width // 8).bit_length() - 1)))


def _settings(config: WarmupConfig, ready: Ready, rows: int) -> Settings:
    defaults = ready.defaults
    rate = defaults.rate_full if ready.full else defaults.rate_lora
    batch = config.batch or max(8, min(128, 1 << (max(1, rows // 25).bit_length() - 1)))
    return Settings(
        epochs=config.epochs,
        learning_rate=config.learning_rate or (LESS_RATE if ready.parameters >= LARGE else rate),
        batch=batch,
        device_batch=min(batch, config.device_batch or defaults.device_batch),
        seed=config.seed,
        warmup=LESS_WARMUP,
        scheduler="linear",
        bf16=ready.bf16,
        recompute=defaults.recompute,
        more={**config.trainer, "save_total_limit": None, "logging_steps": 1},
    )


def _listed(folder: Path) -> list[Record]:
    """The checkpoints of a finished warm-up, in order."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    states = [json.loads((path / STATE).read_text(encoding="utf-8")) for path in found]
    return [
        {
            "folder": path.name,
            "step": state["global_step"],
            "epoch": state["epoch"],
            "learning_rate": logged_rate(path),
        }
        for path, state in zip(found, states, strict=True)
    ]


def _identity(config: WarmupConfig, pool: Pool) -> Record:
    """All that the checkpoints are a function of; reads every file once."""
    places = find_model(
        config.model,
        config.adapter,
        tokenizer=config.tokenizer,
        revision=config.revision,
        allow_pickle=config.allow_pickle,
    )
    return {
        **places.fingerprints(),
        "pool": numbered(pool.fingerprints),
        "option": config.stage("training"),
        "device": choose_device(config.device).type,
        "version": {"prism": __version__, **{name: version_of(name) for name in LIBRARIES}},
    }
