"""Two methods in a row: a cheap one keeps a share of the pool, another ranks what is left."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from prism.budget import Budget
from prism.config import SelectConfig
from prism.data import Row, open_pool
from prism.errors import BadRow, ConfigError, DataError, RunError
from prism.files import write_whole
from prism.methods.baselines import Baseline
from prism.methods.context import Options
from prism.methods.table import find_method
from prism.progress import Progress, Silent
from prism.run.cascade_config import CascadeConfig
from prism.run.folder import RunFiles
from prism.run.others import GRADIENTS
from prism.run.prepare import open_job
from prism.run.provenance import numbered
from prism.run.select import Run, run_select
from prism.selection import Selection
from prism.selection.selection import json_line

CHOOSING = ("order", "strategy", "turns", "coverage_step", "cap_per_source", "quotas", "near_duplicates")


@dataclass(frozen=True)
class Cascade:
    """The runs of both methods, that of the second on the whole pool if it was asked for, and the summary."""

    folder: Path
    first: Run
    second: Run
    full: Run | None
    summary: dict[str, Any]


def run_cascade(config: CascadeConfig, progress: Progress | None = None) -> Cascade:
    """Run `first` on the pool into `first/`, keep its best rows in `kept/`, and `method` on these into `second/`.

    The budget is a share of the whole pool. Each run is gone on with as `run_select` does; `selected.jsonl` holds the
    users' own rows, `cascade.json` the summary.

    Raises:
        PrismError: with what is wrong and what to do. Whatever was finished before stays.
    """
    progress = progress or Silent()
    out = Path(config.out).expanduser().absolute()
    stages = _stages(config, out)
    open_job(stages["second"].absolute())  # which refuses what the second method can't do before the first runs
    earlier = _earlier(out)
    progress.note(f"first: {config.first} keeps {config.keep} of the pool")
    first = run_select(stages["first"], progress)
    budget = _of_all(config.budget, len(first.selection.scores))
    if Budget.parse(budget).unit == "samples" and int(budget) > len(first.selection):
        raise ConfigError(f"--budget asks for {budget} rows, but {config.first} kept {len(first.selection)}")
    places = _write_kept(first.selection, out / "kept")
    _require_same_rows(out / "second", places)
    progress.note(f"second: {config.method} ranks {len(first.selection)} rows")
    second = run_select(stages["second"].model_copy(update={"pool": places, "budget": budget}), progress)
    full = None
    if config.compare_full:
        progress.note(f"full: {config.method} ranks all {len(first.selection.scores)} rows, to compare")
        full = run_select(stages["full"].model_copy(update={"budget": budget}), progress)
    try:
        second.selection.save(out / "selected.jsonl")
        runs = {"first": first, "second": second, **({} if full is None else {"full": full})}
        summary = {
            "out": str(out),
            "first": config.first,
            "method": config.method,
            "kept": len(first.selection),
            "of": len(first.selection.scores),
            "rows": len(second.selection),
            "sources": second.selection.sources(),
            "stages": {name: _stage(run, earlier.get(name)) for name, run in runs.items()},
            "loss": None if full is None else lost(first.selection, second.selection, full.selection, config.order),
            "notices": list(second.selection.notices),
        }
        write_whole(out / "cascade.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(f"{out} can't be written: {error}") from error
    return Cascade(out, first, second, full, summary)


def lost(first: Selection, second: Selection, full: Selection, order: str = "top") -> dict[str, float | None]:
    """What the cascade's choice `second` is short of that of the full ranking.

    `overlap`: how much of the full selection it has; `survived`: how much of it the first method kept; `score`: the sum
    of the full ranking's scores over the cascade's rows, over that of the full selection; `random`: the same, expected
    of as many rows drawn from the whole pool; None where the full selection's sum is not above zero (below, with
    `order="bottom"`), since a share of it says nothing then.
    """
    ids = {name: place for place, name in enumerate(full.scores.table.column("id").to_pylist())}
    wanted = set(full.ids)
    values = full.scores.column("score")
    found = np.array([ids[name] for name in second.ids], dtype=np.int64)
    best = float(values[full.places].sum())
    finite = values[np.isfinite(values)]
    told = best > 0 if order == "top" else best < 0
    return {
        "overlap": len(wanted & set(second.ids)) / len(wanted),
        "survived": len(wanted & set(first.ids)) / len(wanted),
        "score": float(np.nansum(values[found])) / best if told else None,
        "random": float(finite.mean() * len(found)) / best if told else None,
    }


def _stages(config: CascadeConfig, out: Path) -> dict[str, SelectConfig]:
    """The config of each run: options that only one of the two methods takes go to that one."""
    own = set(CascadeConfig.model_fields) - set(SelectConfig.model_fields)
    shared = config.model_dump(exclude=own, by_alias=False)
    defaults = {name: field.get_default() for name, field in SelectConfig.model_fields.items()}
    method, other = find_method(config.first), find_method(config.method)
    first = {name: value for name, value in shared.items() if name not in CHOOSING}
    if isinstance(method, Baseline):
        first |= {name: defaults[name] for name in GRADIENTS}
    first["pair_scores"] = False
    taken = {name for m in (method,) if isinstance(m, Baseline) for name in m.takes}
    needed = {name for m in (other,) if isinstance(m, Baseline) for name in m.takes}
    options = {field.name for field in fields(Options)}
    first |= {name: defaults[name] for name in options - taken}
    second = shared | {name: defaults[name] for name in (options & taken) - needed}
    return {
        "first": SelectConfig(**first | {"method": config.first, "budget": config.keep, "out": str(out / "first")}),
        "second": SelectConfig(**second | {"out": str(out / "second")}),
        "full": SelectConfig(**second | {"out": str(out / "full")}),
    }


def _of_all(budget: str, rows: int) -> str:
    """A share of the whole pool as a number of rows."""
    parsed = Budget.parse(budget)
    return str(max(1, int(parsed.amount * rows / Decimal(100)))) if parsed.unit == "share" else budget


def _write_kept(selection: Selection, folder: Path) -> list[str]:
    """The kept rows in the pool's order, each file of the pool in one of its own that has its name: a row's source may
    be that of its file."""
    pool = selection.scores.pool
    index = np.sort(selection.scores.column("index")[selection.places])
    places = []
    try:
        for number, (file, rows) in enumerate(groupby(_rows(pool.pick(index.tolist())), key=lambda row: row.file)):
            stem = next(source.stem for source in pool.sources if source.name == file)
            place = folder / f"{number:03d}" / f"{stem}.jsonl"
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, (json_line(row.record).encode() + b"\n" for row in rows))
            places.append(str(place))
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error}") from error
    return places


def _require_same_rows(second: Path, kept: list[str]) -> None:
    """Raises RunError where the second method ranked other rows before than those that are kept now."""
    manifest = RunFiles(second).manifest
    if manifest is not None and manifest["identity"].get("pool") != numbered(open_pool(kept).fingerprints):
        raise RunError(
            f"{second} ranks other rows than the first method keeps now: --first, --keep, an option of it or the pool "
            "has changed. Undo the change to go on with it, or name a new --out"
        )


def _rows(found: Iterator[Row | BadRow]) -> Iterator[Row]:
    for row in found:
        if isinstance(row, BadRow):
            raise DataError(f"{row.file} changed since it was scored: a chosen row is bad now: {row}")
        yield row


def _stage(run: Run, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """Rows, method and seconds of a run; where its scores were all there already, the seconds that they took then."""
    rows = run.summary["rows"]
    stage = {"method": run.summary["method"], "rows": rows["scored"], "seconds": run.summary["seconds"]}
    if rows["reused"] >= rows["scored"] and earlier is not None:
        stage["seconds"] = earlier["seconds"]
    return stage


def _earlier(out: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((out / "cascade.json").read_text(encoding="utf-8"))["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
