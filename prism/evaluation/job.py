"""`prism evaluate`: what a model does now, beside what its base did."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prism import __version__
from prism.circumstances import circumstances, version_of
from prism.data import Target, load_target
from prism.errors import BadRow, RunError
from prism.evaluation.bootstrap import CONFIDENCE
from prism.evaluation.checks import Answered, Check, answer_checks, read_checks, require_room
from prism.evaluation.config import EvaluateConfig
from prism.evaluation.preference import PairLosses, measure_pairs
from prism.evaluation.retain import RetainLosses, measure_retained
from prism.evaluation.subject import Subject, subjects_of
from prism.evaluation.tasks import TaskScores, check_tasks, require_tokens, run_tasks, task_figures
from prism.files import write_whole
from prism.model.memory import make_room
from prism.progress import Progress, Silent

log = logging.getLogger("prism")
RESULTS = "evaluate.json"
REJECTED = "evaluate_rejected.jsonl"  # a training's own rejected.jsonl may lie beside it
LIBRARIES = ("torch", "transformers", "peft", "lm_eval")
Report = dict[str, Any]
Checks = tuple[list[Check], list[BadRow]]


@dataclass
class Measured:
    """All that was measured of one model."""

    subject: Subject
    fingerprints: dict[str, str]
    dtype: str
    device: str
    pairs: dict[str, PairLosses] = field(default_factory=dict)
    retain: RetainLosses | None = None
    answered: Answered | None = None
    tasks: dict[str, TaskScores] = field(default_factory=dict)

    def rejected(self) -> list[BadRow]:
        """All rows that could not be used."""
        parts = [*self.pairs.values(), self.retain, self.answered]
        return [row for part in parts if part is not None for row in part.rejected]


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Report:
    """Measure a model, and the base to compare with if one is named; the report also goes to `evaluate.json`.

    `targets` has, for each place of `config.target`, the figures `preference`, `won`, `potential`, `log_preference`,
    `loss_chosen` and `loss_rejected` as `{"value", "low", "high"}`: means over pairs with 95 % percentile bootstrap
    intervals. With a base, `base` has the same of it, and `difference` those of the paired differences. `retain`,
    `generate` and `tasks` (by name) are made likewise.

    Raises:
        PrismError: with what is wrong and what to do.
    """
    progress = progress or Silent()
    config = config.absolute()
    subject, base = subjects_of(config)
    targets = {
        place: load_target([place], columns=config.target_columns, on_bad_row=config.on_bad_row)
        for place in config.target
    }
    checks = read_checks(config.generate, config.on_bad_row) if config.generate else None
    if config.tasks:
        check_tasks(config.tasks)
    folder = Path(config.out) if config.out else subject.folder
    if folder is not None:
        _require_writable(folder)
    ours = _measure(config, subject, targets, checks, None, progress)
    theirs = None if base is None else _measure(config, base, targets, checks, ours.dtype, progress)
    report = _report(config, ours, theirs, targets)
    bad = ours.rejected()
    if folder is None:
        if bad:
            progress.note(f"{len(bad)} rows can't be used; the first: {bad[0]}")
        progress.note("no --out was given: the results are not written to a file")
    else:
        try:
            (folder / REJECTED).unlink(missing_ok=True)
            if bad:
                write_whole(folder / REJECTED, (json.dumps(row.as_json()).encode() + b"\n" for row in bad))
                progress.note(f"{len(bad)} rows can't be used: {folder / REJECTED} says why; the first: {bad[0]}")
            for measured, name in ((ours, "generated.jsonl"), (theirs, "generated_base.jsonl")):
                if measured is not None and measured.answered is not None:
                    write_whole(folder / name, measured.answered.lines())
            write_whole(folder / RESULTS, json.dumps(report, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"{folder / RESULTS} can't be written: {error}") from error
    return report


def _require_writable(folder: Path) -> None:
    """Raises RunError where results could not be written once everything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} can't hold the results: {error}") from error


def _measure(
    config: EvaluateConfig,
    subject: Subject,
    targets: dict[str, Target],
    checks: Checks | None,
    dtype: str | None,
    progress: Progress,
) -> Measured:
    named = subject.model + (f" with {subject.adapter}" if subject.adapter else "")
    progress.note(f"loading {named}")
    model, encoder = subject.load(config, dtype)
    for notice in model.notices:
        progress.note(notice)
    kept = str(model.dtype).removeprefix("torch.")
    measured = Measured(subject, model.fingerprints, kept, str(model.device))
    if checks is not None:
        require_room(model, config.max_new_tokens)
    if config.tasks:
        require_tokens(model.tokenizer, config.chat)
    for place, target in targets.items():
        measured.pairs[place] = measure_pairs(
            model, target, encoder, batch_tokens=config.batch_tokens, progress=progress
        )
    if config.retain:
        measured.retain = measure_retained(
            model,
            config.retain,
            encoder,
            columns=config.columns,
            on_bad_row=config.on_bad_row,
            batch_tokens=config.batch_tokens,
            progress=progress,
        )
    if checks is not None:
        measured.answered = answer_checks(
            model,
            *checks,
            encoder,
            max_new_tokens=config.max_new_tokens,
            batch_tokens=config.batch_tokens,
            progress=progress,
        )
    if config.tasks:
        progress.note(f"tasks: {', '.join(Path(task).name for task in config.tasks)}")
        measured.tasks = run_tasks(
            model,
            config.tasks,
            shots=config.shots,
            limit=config.task_limit,
            chat=config.chat,
            max_length=encoder.max_length,
            seed=config.seed,
        )
    del model, encoder
    make_room()
    return measured


def _report(config: EvaluateConfig, ours: Measured, theirs: Measured | None, targets: dict[str, Target]) -> Report:
    return {
        **circumstances(config.seed),
        "version": {"prism": __version__, **{name: version_of(name) for name in LIBRARIES}},
        "model": _named(ours),
        "base": None if theirs is None else _named(theirs),
        "bootstrap": {"resamples": config.resamples, "confidence": CONFIDENCE, "seed": config.seed},
        "targets": {
            place: _of_target(config, target, ours.pairs[place], None if theirs is None else theirs.pairs[place])
            for place, target in targets.items()
        },
        "retain": _of_retained(config, ours.retain, None if theirs is None else theirs.retain),
        "generate": _of_answers(config, ours.answered, None if theirs is None else theirs.answered),
        "tasks": {
            name: _of_task(config, scores, None if theirs is None else theirs.tasks[name])
            for name, scores in ours.tasks.items()
        },
    }


def _named(measured: Measured) -> Report:
    subject = measured.subject
    return {
        "model": subject.model,
        "adapter": subject.adapter,
        "quantize": subject.quantize,
        "training": None if subject.folder is None else str(subject.folder),
        "fingerprints": measured.fingerprints,
        "dtype": measured.dtype,
        "device": measured.device,
        "responses": subject.responses,
        "plain": subject.plain,
        "max_length": subject.max_length,
    }


def _of_target(config: EvaluateConfig, target: Target, ours: PairLosses, theirs: PairLosses | None) -> Report:
    spread = (config.resamples, config.seed)
    report: Report = {
        "files": target.fingerprints,
        "pairs": int(ours.finite.sum()),
        "rejected": len(ours.rejected),
        "not_finite": int((~ours.finite).sum()),
        "truncated": ours.truncated,
        **ours.figures(*spread),
    }
    if theirs is not None:
        report["base"] = theirs.figures(*spread)
        report["difference"] = ours.minus(theirs, *spread)
    if config.values:
        report["values"] = _by_pair(ours)
        if theirs is not None:
            report["values_base"] = _by_pair(theirs)
    return report


def _by_pair(measured: PairLosses) -> Report:
    columns = {
        n: [v if ok else None for v, ok in zip(column.tolist(), measured.finite, strict=True)]
        for n, column in measured.values().items()
    }
    return {"id": measured.ids, **columns}


def _of_retained(config: EvaluateConfig, ours: RetainLosses | None, theirs: RetainLosses | None) -> Report | None:
    if ours is None:
        return None
    spread = (config.resamples, config.seed)
    report: Report = {
        "places": config.retain,
        "rows": int(ours.finite.sum()),
        "tokens": int(ours.tokens[ours.finite].sum()),
        "rejected": len(ours.rejected),
        "not_finite": int((~ours.finite).sum()),
        **ours.figures(*spread),
    }
    if theirs is not None:
        report["base"] = theirs.figures(*spread)
        report["difference"] = ours.minus(theirs, *spread)
    return report


def _of_answers(config: EvaluateConfig, ours: Answered | None, theirs: Answered | None) -> Report | None:
    if ours is None:
        return None
    spread = (config.resamples, config.seed)
    report: Report = {
        "places": config.generate,
        "checks": len(ours.checks),
        "rejected": len(ours.rejected),
        "cut": ours.cut,
        "not_answered": sum(answer is None for answer in ours.answers),
        "max_new_tokens": config.max_new_tokens,
        **ours.figures(None, *spread),
    }
    if theirs is not None:
        report["base"] = theirs.figures(None, *spread)
        report["difference"] = ours.figures(theirs, *spread)
    return report


def _of_task(config: EvaluateConfig, ours: TaskScores, theirs: TaskScores | None) -> Report:
    spread = (config.resamples, config.seed)
    report: Report = {
        "questions": ours.count,
        "shots": config.shots,
        "limit": config.task_limit,
        "chat": config.chat,
        "notes": ours.notes,
        "figures": task_figures(ours, None, *spread),
    }
    if theirs is not None:
        report["base"] = task_figures(theirs, None, *spread)
        report["difference"] = task_figures(ours, theirs, *spread)
    return report
