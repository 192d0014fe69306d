"""Run the cells of a grid: score once, select, train, evaluate; what is there already is not done again."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prism.config import SelectConfig
from prism.experiments.experiment import Method, in_tokens
from prism.experiments.grid import Cell, Grid
from prism.experiments.joint import Joint
from prism.experiments.steps import Place, evaluated, fine_tuned, for_base
from prism.experiments.work import failed, in_turn, kept, once
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.model.memory import make_room
from prism.progress import Progress
from prism.run.select import Run, run_select
from prism.training.folder import read_record

RESULT = "result.json"
Result = dict[str, Any]


class Runner:
    """Runs cells one after another. A cell that fails says why in its result, and is tried again by the next run."""

    def __init__(self, grid: Grid, progress: Progress, joint: Joint | None = None) -> None:
        self.grid, self.progress = grid, progress
        self.joint = joint or Joint(progress)

    def done(self, cell: Cell) -> bool:
        """Whether the result of a cell is there."""
        return kept(self.grid.cell_folder(cell) / RESULT, self.grid.inputs(cell))

    def scores(self, cells: Sequence[Cell]) -> Iterator[tuple[Method, int]]:
        """Those that the cells which are not done wait for."""
        for cell in cells:
            if cell.method.selects and not self.done(cell):
                assert cell.seed is not None
                yield cell.method, cell.seed

    def run(self, cell: Cell) -> Result:
        """JSON-ready: `status` ("done" or "failed", then `why`), what was trained on, figures, seconds."""
        about = {"method": cell.method.name, "budget": cell.budget, "seed": cell.seed}
        folder = self.grid.cell_folder(cell)
        try:
            result = once(folder / RESULT, self.grid.inputs(cell), lambda: self._make(cell, folder))
        except Exception as error:
            return {**about, "status": "failed", "why": failed(cell.label, error, self.progress)}
        finally:
            make_room()
        return {**about, "status": "done", **result}

    def _make(self, cell: Cell, folder: Path) -> Result:
        e = self.grid.experiment
        config = e.settings(str(folder))
        self.progress.note(f"cell {cell.label}")
        if cell.method.name == "none":
            measured = self._evaluate(self.grid.base, folder, for_base(self.grid.base, config, e.train))
            return {"rows": 0, "response_tokens": 0, "seconds": {}, **measured}
        seconds: dict[str, float] = {}
        chosen: Result = {}
        data: list[str | Path] = list(e.pool)
        if cell.method.selects:
            data, chosen = self._select(cell, folder)
        assert cell.seed is not None
        model = self.grid.model_folder(cell, data)

        def train() -> Place:
            with in_turn(model, self.progress):
                return fine_tuned(self.grid.base, data, model, config, e.train, self.progress, seed=cell.seed)

        place = self.joint.attempts(model, train)
        record = read_record(model)
        assert record is not None
        seconds["train"] = record["seconds"]
        start = time.monotonic()
        measured = self._evaluate(place, folder, config)
        seconds["evaluate"] = time.monotonic() - start
        if model.is_relative_to(folder) and not e.keep_models:
            shutil.rmtree(model)
        trained = {name: record[name] for name in ("steps", "tokens_seen", "loss_first", "loss_last")}
        rows = {name: record["data"][name] for name in ("rows", "response_tokens")}
        return {**rows, **chosen, "training": trained, "seconds": seconds, **measured}

    def _evaluate(self, place: Any, folder: Path, config: Any) -> Result:
        e = self.grid.experiment
        return evaluated(place, e.held_out, e.retain, folder / "evaluation", config, e.evaluate, self.progress)

    def _select(self, cell: Cell, folder: Path) -> tuple[list[str | Path], Result]:
        assert cell.seed is not None
        run = self._scored(cell.method, cell.seed, cell.budget)
        selection = run.selection
        folder.mkdir(parents=True, exist_ok=True)
        selection.save(folder / "selected.jsonl")
        gain, random_gain = selection.gain()
        return [folder / "selected.jsonl"], {
            "sources": selection.sources(),
            "gain": gain,
            "random_gain": random_gain,
            "pool_rows": len(selection.scores),
            "pool_tokens": int(selection.scores.column("response_tokens").sum(dtype=np.int64)),
            "notices": list(selection.notices),
        }

    def _scored(self, method: Method, seed: int, budget: str) -> Run:
        """The scores of a method, with `budget` selected of them."""
        settings = self.grid.scoring(method, seed)
        run = self.joint.attempts(Path(settings.out), lambda: self._scoring(method, seed, settings))
        tokens = int(run.selection.scores.column("response_tokens").sum(dtype=np.int64))
        return run_select(settings.model_copy(update={"budget": in_tokens(budget, tokens)}), self.progress)

    def _scoring(self, method: Method, seed: int, settings: SelectConfig) -> Run:
        self.joint.score(settings.out)
        warming = self.joint.warm(self.grid, method, seed)
        begin = time.monotonic()
        first = not (Path(settings.out) / "summary.json").exists()
        run = run_select(settings, self.progress)
        if first:
            cost = {"seconds": warming + time.monotonic() - begin, "tokens": _tokens(method, run, settings.checkpoints)}
            file = self.grid.cost_file(method, seed)
            once(file, {}, lambda: {**cost, "reused_rows": run.summary["rows"]["reused"]})
        return run


def _tokens(method: Method, run: Run, checkpoints: Sequence[str]) -> int:
    """Tokens of the pool that went through the model, at every checkpoint."""
    found = find_method(method.method)
    if not isinstance(found, Recipe):
        passes = int(found.needs_model)
    else:
        passes = sum(max(1, len(list(Path(place).glob("checkpoint-*")))) for place in checkpoints) or 1
    return passes * int(run.selection.scores.column("tokens").sum(dtype=np.int64))
