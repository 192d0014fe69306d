"""What is evaluated: a model, an adapter on it, and how its training read rows."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prism.config import Quantize
from prism.data import Encoder
from prism.errors import ConfigError, RunError
from prism.evaluation.config import EvaluateConfig
from prism.model import Model, load_model
from prism.training.folder import base_place, read_record, trained_place


@dataclass(frozen=True)
class Subject:
    """Places of a model, and the options by which its rows are encoded."""

    model: str
    adapter: str | None
    tokenizer: str | None
    revision: str | None
    folder: Path | None = None  # of the training that made it
    responses: Any = "last"
    plain: bool = False
    max_length: int | None = None
    quantize: Quantize | None = None

    def load(self, config: EvaluateConfig, dtype: str | None = None) -> tuple[Model, Encoder]:
        """Raises ModelError or ConfigError where it can't be loaded."""
        model = load_model(
            self.model,
            adapter=self.adapter,
            tokenizer=self.tokenizer,
            revision=self.revision,
            parameters="unpacked",
            device=config.device,
            dtype=dtype or config.dtype,
            quantize=self.quantize,
            trust_remote_code=config.trust_remote_code,
            allow_pickle=config.allow_pickle,
        )
        return model, model.encoder(max_length=self.max_length, responses=self.responses, plain=self.plain)


def subjects_of(config: EvaluateConfig) -> tuple[Subject, Subject | None]:
    """What to evaluate, and what to compare it with.

    Raises:
        RunError: the folder holds an unfinished training, or a run.
        ConfigError: options contradict each other.
    """
    subject = _subject(config.model, config.adapter, config)
    if config.base is None:
        return subject, None
    if config.base != "auto":
        bare = config.model_copy(update={"tokenizer": None, "revision": None})  # those are the model's
        return subject, replace(_subject(config.base, config.base_adapter, bare), **_how(subject))
    if subject.folder is None:
        raise ConfigError("--base auto: the model is no folder of prism train, so name the base")
    if config.base_adapter is not None:
        raise ConfigError("--base-adapter: --base auto has its own")
    model, adapter, tokenizer = base_place(subject.folder)
    words = subject.tokenizer or tokenizer
    return subject, replace(subject, model=model, adapter=adapter, tokenizer=words, folder=None)


def _subject(place: str, adapter: str | None, config: EvaluateConfig) -> Subject:
    folder = Path(place)
    record = read_record(folder) if folder.is_dir() else None
    if record is None:
        if folder.is_dir() and (folder / "selected.jsonl").exists():
            raise RunError(f"{folder} is a run of prism select, not a model: prism train {folder} makes one")
        return Subject(
            place,
            adapter,
            config.tokenizer,
            config.revision,
            responses=config.responses or "last",
            plain=bool(config.plain),
            max_length=config.max_length,
            quantize=config.quantize,
        )
    if adapter is not None:
        raise ConfigError(f"--adapter: {folder} is a training's folder, which knows its own")
    model, own = trained_place(folder)
    settings, base = record["settings"], record["base"]
    return Subject(
        model,
        own,
        config.tokenizer,
        config.revision or (base["revision"] if own else None),
        folder,
        responses=config.responses or settings["responses"],
        plain=bool(settings["plain"] if config.plain is None else config.plain),
        max_length=config.max_length or settings["max_length"],
        quantize=config.quantize or base.get("quantize"),
    )


def _how(subject: Subject) -> dict[str, Any]:
    return {name: getattr(subject, name) for name in ("responses", "plain", "max_length")}
