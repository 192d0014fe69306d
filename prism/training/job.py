"""`prism train`: fine-tune on a selection, or on any rows, and record what came of it."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prism import __version__
from prism.circumstances import circumstances, numbered, version_of
from prism.data import BadRows, Encoded, Encoder, Pool, Row, load_target, open_pool
from prism.errors import BadRow, ConfigError, DataError, RowError, TrainingError, first_line, stopped_at
from prism.files import write_whole
from prism.model import find_model
from prism.model.load import choose_device
from prism.model.memory import make_room, out_of_memory
from prism.model.quiet import quiet_transformers
from prism.progress import Progress, recorded
from prism.training.config import TrainConfig
from prism.training.folder import TrainFolder, require_one_process, trained_place
from prism.training.material import MODEL, Material, material_of
from prism.training.network import Ready, make_ready
from prism.training.overlap import find_overlap
from prism.training.trainer import Settings, checked, make_trainer, require_trl, write_tokens
from prism.training.watch import WINDOW, Watch, diverged

LIBRARIES = ("torch", "transformers", "trl", "peft")
MACHINE = ("device", "version")  # what a training that is done may differ in
Record = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, what `train.json` says, and (model, adapter or None) to load it by."""

    folder: Path
    summary: Record
    model_place: tuple[str, str | None]


def train(config: TrainConfig, progress: Progress | None = None) -> Trained:
    """Fine-tune by TRL on the tokens and response masks that scoring has; everything lands in `config.out`.

    The same call goes on with a training that was stopped, from its last checkpoint, and returns one that is finished.

    Raises:
        TrainingError: the loss is not finite or explodes; nothing of the training is kept.
        RunError: the folder holds something else, or the run to train on is not finished.
        PrismError: with what is wrong and what to do.
    """
    progress = recorded(progress)
    require_one_process()
    checked(config.trainer, require_trl()[1])
    material = material_of(config.absolute())
    with TrainFolder(Path(material.config.out)) as folder:
        return _train(material, folder, progress)


def _train(material: Material, folder: TrainFolder, progress: Progress) -> Trained:
    config, began = material.config, time.monotonic()
    pool = open_pool(material.files, columns=config.columns, on_bad_row=config.on_bad_row)
    folder.claim(_identity(config, pool), circumstances(config.seed), MACHINE)
    if folder.finished:
        progress.note(f"{folder.path} holds this training already: nothing is left to do")
        return _trained(folder)
    try:
        overlap = _overlap(config, pool, progress)
        progress.note(f"loading {config.model}")
        ready = make_ready(config)
        settings = settings_of(config, ready)
        encoder = ready.model.encoder(
            max_length=config.max_length, responses=config.responses or "last", plain=bool(config.plain)
        )
        data = encode_rows(pool.read(), pool, encoder, folder)
    except Exception:
        if folder.last_checkpoint() is None:
            folder.forget()  # nothing to lose: an option may change now
        raise
    for notice in (*ready.model.notices, *notices_of(data, ready, settings)):
        progress.note(notice)
    config.save(folder.path / "config.yaml", "train")
    trainer, ready, settings = fit(config, ready, folder, data["rows"], settings, progress)
    losses = [_entry(e) for e in trainer.state.log_history if "loss" in e]
    progress.note(f"loss {losses[0]['loss']:.4g} → {_last(losses):.4g} nats per token")
    folder.save(lambda place: _save(ready, place))
    if not config.keep_checkpoints:
        folder.drop_checkpoints()
    assert folder.record is not None
    folder.write(
        {
            **folder.record,
            "status": "done",
            "full": ready.full,
            "base": {name: getattr(config, name) for name in MODEL},
            "model_place": [str(folder.path), None] if ready.full else [config.model, str(folder.path)],
            "data": {
                "run": None if material.run is None else str(material.run),
                "files": {source.name: source.fingerprint() for source in pool.sources},
                **data,
            },
            "overlap": overlap,
            "parameters": ready.parameters,
            "trained_parameters": sum(p.numel() for p in ready.model.parameters.values()),
            "settings": plain(settings, ready, config),
            "steps": trainer.state.global_step,
            "tokens_seen": trainer.state.num_input_tokens_seen,
            "loss_first": losses[0]["loss"],
            "loss_last": _last(losses),
            "losses": losses,
            "device": str(ready.model.device),
            "seconds": round(time.monotonic() - began, 3),
        }
    )
    return _trained(folder)


def settings_of(config: TrainConfig, ready: Ready) -> Settings:
    """What the config says, and the defaults of the model's size where it says nothing."""
    defaults = ready.defaults
    batch = config.batch or defaults.batch
    rate = defaults.rate_full if ready.full else defaults.rate_lora
    return Settings(
        epochs=config.epochs or float(defaults.epochs),
        learning_rate=config.learning_rate or rate,
        batch=batch,
        device_batch=min(batch, config.device_batch or defaults.device_batch),
        seed=config.seed,
        bf16=ready.bf16,
        recompute=defaults.recompute,
        saves=config.checkpoints,
        more=config.trainer,
    )


def _identity(config: TrainConfig, pool: Pool) -> Record:
    """All that the trained weights are a function of; reads every file once."""
    assert config.model is not None
    places = find_model(
        config.model,
        config.adapter,
        tokenizer=config.tokenizer,
        revision=config.revision,
        allow_pickle=bool(config.allow_pickle),
    )
    return {
        **places.fingerprints(),
        "data": numbered(pool.fingerprints),
        "option": config.stage("training"),
        "device": choose_device(config.device).type,
        "version": {"prism": __version__, **{name: version_of(name) for name in LIBRARIES}},
    }


def _overlap(config: TrainConfig, pool: Pool, progress: Progress) -> Record | None:
    if not config.held_out:
        return None
    target = load_target(config.held_out, columns=config.target_columns, on_bad_row=config.on_bad_row)
    found = find_overlap(pool, target)
    progress.note(found.notice())
    return found.as_json()


def encode_rows(rows: Iterable[Row | BadRow], pool: Pool, encoder: Encoder, folder: TrainFolder) -> Record:
    """Write `tokens.arrow` and `rejected.jsonl` of rows of a pool; returns counts. Raises DataError where none is
    left."""
    counts = {"rows": 0, "tokens": 0, "response_tokens": 0, "truncated": 0}
    bad = BadRows()

    def good() -> Iterator[Encoded]:
        for row in rows:
            if not isinstance(row, BadRow):
                try:
                    sample = encoder.row(row)
                except RowError as error:
                    row = BadRow(row.file, row.line, str(error), row.id)
                else:
                    counts["rows"] += 1
                    counts["tokens"] += len(sample)
                    counts["response_tokens"] += sample.response_tokens
                    counts["truncated"] += sample.truncated
                    yield sample
                    continue
            if pool.on_bad_row == "stop":
                raise stopped_at(row)
            bad.append(row)

    write_tokens(good(), folder.tokens)
    write_whole(folder.path / "rejected.jsonl", (json.dumps(row.as_json()).encode() + b"\n" for row in bad))
    if not counts["rows"]:
        names = ", ".join(source.name for source in pool.sources)
        if not bad:
            raise DataError(f"there is nothing to train on: {names} holds no rows")
        raise DataError(f"all {len(bad)} rows to train on were rejected; the first: {bad[0]}")
    return {**counts, "rejected": len(bad)}


def fit(
    config: TrainConfig,
    ready: Ready,
    folder: TrainFolder,
    rows: int,
    settings: Settings,
    progress: Progress,
    callbacks: Sequence[Any] = (),
) -> tuple[Any, Ready, Settings]:
    """Train to the end, from the last checkpoint if there is one, with fewer samples at a time if memory runs out."""
    while True:
        watch = Watch(progress, rows, settings.epochs, ready.model.network.get_input_embeddings().weight.shape[0])
        hooks = [watch, *callbacks]
        trainer = make_trainer(ready.model, folder.tokens, folder.checkpoints, settings, hooks)
        checkpoint = folder.last_checkpoint()
        if checkpoint is not None:
            progress.note(f"going on from {checkpoint.name}")
        try:
            with quiet_transformers():
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            if bad := next((n for n, p in ready.model.parameters.items() if not p.isfinite().all()), None):
                raise diverged(trainer.state, f"the weights of {bad} are not finite")
            return trainer, ready, settings
        except TrainingError:
            folder.forget()
            raise
        except ImportError as error:
            raise ConfigError(f"a --trainer setting asks for a package: {first_line(error)}") from error
        except RuntimeError as error:
            if not out_of_memory(error) or settings.device_batch == 1:
                raise
        settings = replace(settings, device_batch=settings.device_batch // 2)
        progress.note(f"out of memory: going on with {settings.device_batch} samples at a time")
        del trainer, watch, ready
        make_room()
        ready = make_ready(config)  # what was trained since the last checkpoint is lost


def _save(ready: Ready, place: Path) -> None:
    """The trained model or adapter, with its tokenizer and chat template."""
    network = ready.model.network
    with quiet_transformers():
        if ready.full:
            network.config.use_cache = True
            network.save_pretrained(place)
            network.config.use_cache = False
        else:
            network.save_pretrained(place, save_embedding_layers=False)
        ready.model.tokenizer.save_pretrained(place)


def _trained(folder: TrainFolder) -> Trained:
    assert folder.record is not None
    return Trained(folder.path, folder.record, trained_place(folder.path))


def notices_of(data: Record, ready: Ready, settings: Settings) -> Iterator[str]:
    what = "all weights" if ready.full else "a LoRA on all linear layers"
    size = sum(p.numel() for p in ready.model.parameters.values())
    yield (
        f"training {what} ({size:,} of {ready.parameters:,}) on {data['rows']:,} rows, {data['response_tokens']:,} "
        f"response tokens: {settings.epochs:g} epochs, learning rate {settings.learning_rate:g}, {settings.batch} "
        f"samples per step, {'bfloat16' if settings.bf16 else 'float32'} on {ready.model.device}"
    )
    if data["rejected"]:
        yield f"{data['rejected']:,} rows can't be trained on: rejected.jsonl says why"
    if data["truncated"]:
        yield f"{data['truncated']:,} rows are longer than the longest sample and are cut, as scoring cuts them"


def _entry(logged: Mapping[str, Any]) -> Record:
    return {
        "step": logged["step"],
        "loss": logged["loss"],
        "learning_rate": logged.get("learning_rate"),
        "gradient_norm": logged.get("grad_norm"),
    }


def _last(losses: list[Record]) -> float:
    last = [entry["loss"] for entry in losses[-WINDOW:]]
    return math.fsum(last) / len(last)


def plain(settings: Settings, ready: Ready, config: TrainConfig) -> Record:
    lora = None
    if not ready.full:
        held = ready.model.network.peft_config[ready.model.network.active_adapter]
        lora = {"rank": held.r, "alpha": held.lora_alpha, "dropout": held.lora_dropout}
    return {
        **{name: getattr(settings, name) for name in ("epochs", "learning_rate", "batch")},
        "warmup": settings.more.get("warmup_steps", settings.warmup),
        "scheduler": settings.more.get("lr_scheduler_type", settings.scheduler),
        "device_batch": settings.device_batch,
        "dtype": "bfloat16" if settings.bf16 else "float32",
        "recompute": settings.recompute,
        "lora": lora,
        "max_length": config.max_length,
        "responses": config.responses,
        "plain": config.plain,
        "trainer": dict(settings.more),
    }
