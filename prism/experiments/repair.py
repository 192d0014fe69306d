"""`prism repair`: mend a model that its fine-tuning data broke, and measure what that did."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prism.data import open_pool, open_target
from prism.errors import ConfigError
from prism.evaluation.retain import retained_rows
from prism.experiments.config import RepairConfig
from prism.experiments.drop import choose_drop, require_droppable, write_sides
from prism.experiments.labels import Labels, against_labels, read_labels, require_labels
from prism.experiments.options import require_trainer
from prism.experiments.overlap import overlap_of
from prism.experiments.repair_report import markdown
from prism.experiments.statistics import plain
from prism.experiments.steps import Place, base_of, change, evaluated, fine_tuned, for_base, place_of, without_values
from prism.experiments.work import save_json, workplace
from prism.files import write_whole
from prism.progress import Progress, recorded
from prism.run.select import run_select
from prism.scoring import ScoreTable


@dataclass(frozen=True)
class Repaired:
    """A repaired model, and what was done for it, JSON-ready."""

    place: Place
    done: dict[str, Any]


def repair(config: RepairConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Reverse: rank the SFT data by influence on the target's behaviour, drop the top, retrain the base. Forward: pick
    rows from a pool that work against it, and go on training the broken model. Then measure base, broken and repaired.

    Everything lands in `config.out`: a folder per step, `summary.json` and `repair.md`. Finished steps are not done
    again.

    Raises:
        PrismError: with what is wrong and what to do. Whatever was finished before stays.
    """
    progress = recorded(progress)
    with workplace(Path(config.out), "repair", config.seed) as folder:
        found: dict[str, Any] = plain(_repair(config, folder, progress))
        save_json(folder / "summary.json", found)
        write_whole(folder / "repair.md", markdown(found))
    return found


def _repair(config: RepairConfig, folder: Path, progress: Progress) -> dict[str, Any]:
    _require(config)
    base, pairs = base_of(config), config.held_out or config.target
    overlap = _overlap(config, progress)
    if config.broken is not None:
        broken = place_of(config.broken, base)
    else:
        progress.note("breaking: the base is fine-tuned on all of the data")
        broken = fine_tuned(base, config.data, folder / "broken", config, config.train, progress)
    if config.direction == "forward":
        repaired = {"repaired": _forward(config, folder, broken, progress)}
    else:
        at = {"broken": broken, "base": base}
        wanted = list(at) if config.at == "both" else [config.at]
        repaired = {
            f"repaired, ranked at {name}": _reverse(config, folder, name, at[name], base, progress) for name in wanted
        }
    models = {"base": base, "broken": broken, **{name: one.place for name, one in repaired.items()}}
    measuring = for_base(base, config, config.train)
    behaviour = {
        name: evaluated(
            place, pairs, config.retain, folder / "evaluation" / _slug(name), measuring, config.evaluate, progress
        )
        for name, place in models.items()
    }
    return {
        "out": str(folder),
        "direction": config.direction,
        "base": config.model,
        "broken": config.broken or "the base fine-tuned on the data",
        "method": getattr(config, "method", "prism"),
        "seed": config.seed,
        "measured_on": pairs,
        "held_out": bool(config.held_out),
        "overlap": overlap,
        "repairs": {name: one.done for name, one in repaired.items()},
        "behaviour": {name: without_values(found) for name, found in behaviour.items()},
        "changes": {
            name: {
                "from broken": change(behaviour["broken"], behaviour[name]),
                "from base": change(behaviour["base"], behaviour[name]),
            }
            for name in repaired
        },
    }


def _reverse(config: RepairConfig, folder: Path, at: str, place: Place, base: Place, progress: Progress) -> Repaired:
    """Drop the top of the ranking at `place`, and retrain the base on the rest."""
    ranking = folder / f"ranking-at-{at}{'-calibrated' if config.calibrate else ''}"
    run, drop = choose_drop(config, ranking, place.fields(), progress)
    scores = drop.selection.scores
    here = folder / f"repaired-at-{at}-{_slug(config.drop or 'threshold')}"
    kept, dropped = write_sides(drop, here)
    labels = _labels(config, scores)
    progress.note(f"repairing: the base is fine-tuned without {len(drop.selection)} of {len(scores)} rows")
    mended = fine_tuned(base, [kept], here / "model", config, config.train, progress)
    return Repaired(
        mended,
        {
            "at": at,
            "model": str(here / "model"),
            "kept": str(kept),
            "dropped": str(dropped),
            "rows": len(scores),
            "dropped_rows": len(drop.selection),
            "threshold": drop.threshold,
            "labels": labels and against_labels(scores, drop.selection.places, labels, config.seed),
            "seconds": run.summary["seconds"],
            "notices": list(run.selection.notices),
        },
    )


def _forward(config: RepairConfig, folder: Path, broken: Place, progress: Progress) -> Repaired:
    """Pick the rows of the pool that pull hardest towards the safe side, and go on training the broken model."""
    names = config.target_columns
    turned = {**names, "chosen": names.get("rejected", "rejected"), "rejected": names.get("chosen", "chosen")}
    settings = config.ranking(
        pool=config.pool,
        out=str(folder / "picked"),
        budget=config.budget,
        target_columns=turned,
        keep_duplicates=False,
        **broken.fields(),
    )
    run = run_select(settings, progress)
    here = folder / f"repaired-{_slug(config.budget)}"
    progress.note(f"repairing: the broken model is fine-tuned on {len(run.selection)} rows of the pool")
    here.mkdir(parents=True, exist_ok=True)
    picked = here / "picked.jsonl"
    run.selection.save(picked)
    mended = fine_tuned(broken, [picked], here / "model", config, config.train, progress)
    return Repaired(
        mended,
        {
            "at": "broken",
            "model": str(here / "model"),
            "picked": str(picked),
            "rows": len(run.selection.scores),
            "picked_rows": len(run.selection),
            "sources": run.selection.sources(),
            "seconds": run.summary["seconds"],
            "notices": list(run.selection.notices),
        },
    )


def _overlap(config: RepairConfig, progress: Progress) -> Mapping[str, Any] | None:
    """What the training data and the target hold of the held-out pairs, and the data of the retain rows."""
    if not config.held_out:
        progress.note("no --held-out pairs: behaviour is measured on the target's own pairs, which chose the rows")
        return None
    rows = open_pool([*config.data, *config.pool], columns=config.columns)
    target = open_target(config.target, columns=config.target_columns)
    held_out = open_target(config.held_out, columns=config.target_columns)
    retain = retained_rows(config.retain, config.columns) if config.retain else None
    found = overlap_of(rows, target, held_out, retain)
    for notice in found["notices"]:
        progress.note(notice)
    return found


def _require(config: RepairConfig) -> None:
    """Raises PrismError for what would fail only after a training: the trainer's settings, and labels."""
    require_trainer(config.train)
    if config.direction == "reverse":
        require_droppable(config)
        if config.label_column is not None:
            require_labels(open_pool(config.calibrate or config.data, columns=config.columns), config.label_column)


def _labels(config: RepairConfig, scores: ScoreTable) -> Labels | None:
    """Those of the data; it need have none where a labelled set of its own sets the threshold."""
    if config.label_column is None:
        return None
    try:
        return read_labels(scores.pool, scores, config.label_column)
    except ConfigError:
        if config.calibrate:
            return None
        raise


def _slug(text: str) -> str:
    """A name for files: `10%` is `10pct`."""
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in text.replace("%", "pct").replace(", ", "-"))
