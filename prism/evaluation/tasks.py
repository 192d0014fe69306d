"""Tasks of lm-evaluation-harness: built-in ones by name, YAML files, and multiple-choice JSONL files."""

import contextlib
import io
import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from prism.errors import ConfigError, DataError, first_line
from prism.evaluation.bootstrap import mean_figures
from prism.evaluation.choices import write_task
from prism.model import Model
from prism.model.quiet import quiet_transformers

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TaskScores:
    """Of one task: metric → what lm-eval reports, and metric → that of each question [questions] where it is a mean."""

    metrics: dict[str, float]
    questions: dict[str, Floats]
    count: int
    notes: list[str] = field(default_factory=list)


def require_lm_eval() -> Any:
    """Raises ConfigError where lm-evaluation-harness is not installed."""
    try:
        import lm_eval
    except ImportError as error:
        raise ConfigError("tasks need lm-evaluation-harness: pip install 'prism-select[eval]'") from error
    return lm_eval


def run_tasks(
    model: Model,
    tasks: Sequence[str],
    *,
    shots: int | None = None,
    limit: int | None = None,
    chat: bool = False,
    max_length: int,
    batch: int = 16,
    seed: int = 0,
) -> dict[str, TaskScores]:
    """Scores by task, subtasks of groups each for themselves.

    Raises:
        ConfigError: lm-eval is missing, does not know a task, or `chat` is wanted of a tokenizer without a template.
        DataError: a task's data can't be had, or the task fails.
    """
    require_lm_eval()
    require_tokens(model.tokenizer, chat)
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    with tempfile.TemporaryDirectory() as scratch, _silence():
        specs, notes, manager = _prepared(tasks, Path(scratch))
        cached = model.network.config.use_cache
        try:
            with _failing(tasks):
                loaded = HFLM(
                    pretrained=model.network,
                    tokenizer=model.tokenizer,
                    batch_size=batch,
                    max_length=max_length,
                    device=str(model.device),
                )
                found = simple_evaluate(
                    model=loaded,
                    tasks=specs,
                    num_fewshot=shots,
                    limit=limit,
                    bootstrap_iters=0,
                    apply_chat_template=chat,
                    task_manager=manager,
                    random_seed=seed,
                    numpy_random_seed=seed,
                    torch_random_seed=seed,
                    fewshot_random_seed=seed,
                )
        finally:
            model.network.config.use_cache = cached
    assert found is not None
    return {
        name: _scores(metrics, found["samples"].get(name, []), notes.get(name, []))
        for name, metrics in found["results"].items()
    }


def require_tokens(tokenizer: Any, chat: bool) -> None:
    """Raises ConfigError where the tokenizer lacks what tasks need."""
    if chat and not getattr(tokenizer, "chat_template", None):
        raise ConfigError("--chat: the model's tokenizer has no chat template; leave --chat out")
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ConfigError(
            "--tasks: the model's tokenizer has neither a begin-of-text nor an end-of-text token, one of which "
            "lm-evaluation-harness puts before a text: set eos_token in its tokenizer_config.json"
        )


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises what `run_tasks` would raise of tasks that are none, or whose data or fields are not there, before a model
    is loaded."""
    require_lm_eval()
    with tempfile.TemporaryDirectory() as scratch, _silence():
        specs, _, manager = _prepared(tasks, Path(scratch))
        for task, spec in zip(tasks, specs, strict=True):
            with _failing([task]):
                manager.load([spec])  # reads the data and renders its first question


@contextlib.contextmanager
def _failing(tasks: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tasks are programs: they fail in any way
        raise DataError(f"lm-evaluation-harness failed on {', '.join(tasks)}: {first_line(error)}") from error


def _prepared(tasks: Sequence[str], scratch: Path) -> tuple[list[Any], dict[str, list[str]], Any]:
    """(names and configs of tasks, what there is to say of each, lm-eval's manager of tasks)."""
    specs: list[Any] = []
    notes: dict[str, list[str]] = {}
    for task in tasks:
        spec, name, said = _spec(task, scratch)
        specs.append(spec)
        notes[name] = said
    manager = _manager(any(isinstance(spec, str) for spec in specs))
    if unknown := [s for s in specs if isinstance(s, str) and s not in manager.all_tasks]:
        raise ConfigError(f"--tasks {unknown[0]}: neither a file nor a task that lm-evaluation-harness knows")
    return specs, notes, manager


@cache
def _manager(defaults: bool) -> Any:
    """Reading the built-in tasks takes half a minute."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=defaults)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Neither bars nor advice of lm-eval and datasets; what goes wrong is raised. Nor git's complaint where there is no
    repository: lm-eval asks it for a commit that is not reported here."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            quiet_transformers(),
            contextlib.redirect_stderr(io.StringIO()),
            patch("lm_eval.evaluator.get_git_commit_hash", lambda: None, create=True),
        ):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _spec(task: str, scratch: Path) -> tuple[str | dict[str, Any], str, list[str]]:
    """(name, or a task's config), its name, and what there is to say of it."""
    path = Path(task)
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path), "", []
    if path.exists() or path.suffix in (".jsonl", ".json", ".parquet", ".csv"):
        name = re.sub(r"\W+", "_", path.name.partition(".")[0])
        file, count, rejected = write_task(path, scratch / f"{name}.yaml", name=name)
        said = [
            f"{len(rejected)} of {count + len(rejected)} rows are no multiple choice: {bad}" for bad in rejected[:1]
        ]
        return _from_yaml(file), name, said
    return task, task, []


def _from_yaml(path: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    if not path.exists():
        raise ConfigError(f"the task file {path} does not exist")
    try:
        loaded = load_yaml(path, resolve_func=True, recursive=True)
    except Exception as error:
        raise ConfigError(f"the task file {path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict) or not ({"task", "group"} & loaded.keys()):
        raise ConfigError(f"{path} is no task file of lm-evaluation-harness: it names no task")
    return dict(loaded)


def _scores(metrics: dict[str, Any], samples: list[dict[str, Any]], notes: list[str]) -> TaskScores:
    """lm-eval writes `acc,none` for the metric acc under no filter."""
    reported = {
        key.removesuffix(",none"): float(value)
        for key, value in metrics.items()
        if isinstance(value, int | float) and "," in key and "_stderr" not in key
    }
    questions: dict[str, Floats] = {}
    for name, value in reported.items():
        metric, _, wanted = name.partition(",")
        rows = [s for s in samples if s.get("filter", "none") == (wanted or "none")]
        column = [row.get(metric) for row in sorted(rows, key=lambda row: row["doc_id"])]
        if column and all(isinstance(v, int | float | np.number) for v in column):
            values = np.array(column, dtype=np.float64)
            if np.isclose(values.mean(), value):  # a mean over questions, not some other aggregate
                questions[name] = values
    return TaskScores(reported, questions, len({s["doc_id"] for s in samples}), notes)


def task_figures(ours: TaskScores, base: TaskScores | None, resamples: int, seed: int) -> dict[str, Any]:
    """Each metric, with an interval where it is a mean over questions; minus that of `base` where one is given."""
    found: dict[str, Any] = {}
    for name, value in ours.metrics.items():
        column, theirs = ours.questions.get(name), None
        if base is not None:
            if name not in base.metrics:
                continue
            value, theirs = value - base.metrics[name], base.questions.get(name)
            column = (
                column - theirs if column is not None and theirs is not None and len(column) == len(theirs) else None
            )
        if column is None:
            found[name] = {"value": value, "low": None, "high": None}
        else:
            found |= mean_figures({name: column}, resamples, seed)
    return found
