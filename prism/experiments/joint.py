"""Scores that several methods of a comparison, or several comparisons, can have in one pass; and their warm-ups."""

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from prism.config import SelectConfig
from prism.experiments.experiment import Method
from prism.experiments.grid import Grid
from prism.experiments.work import Attempts, failed, in_turn, once
from prism.model.memory import make_room
from prism.progress import Progress
from prism.run.together import score_together, together
from prism.training.warmup import warmup


class Joint:
    """Knows which scores are wanted, and makes those that one pass can serve when the first of them is asked for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._wanted: dict[str, tuple[Grid, Method, int, SelectConfig]] = {}
        self.attempts = Attempts()

    def want(self, grid: Grid, scores: Iterable[tuple[Method, int]]) -> None:
        """Those of some methods, each at a seed."""
        for method, seed in scores:
            config = grid.scoring(method, seed)
            self._wanted[config.out] = grid, method, seed, config

    def score(self, out: str) -> None:
        """Make the scores that are wanted in the folder `out`, with all that can have its pass. What that leaves out,
        or where it fails, is left to whoever asked: then the folder lacks some."""
        if out not in self._wanted:
            return
        group: list[SelectConfig] = []
        try:
            groups = together([config for *_, config in self._wanted.values()])
            group = next((group for group in groups if any(config.out == out for config in group)), [])
            for config in group:
                self.warm(*self._wanted[config.out][:3])
            for done, cost in score_together(group, self._progress):
                grid, method, seed, _ = self._wanted[done]
                cost["seconds"] += self.warm(grid, method, seed)
                once(grid.cost_file(method, seed), {}, partial(dict, cost))
        except Exception as error:
            names = ", ".join(dict.fromkeys(config.method for config in group)) or "several methods"
            failed(f"one pass for {names}", error, self._progress, ", so that each gets its own")
        finally:
            for place in {out, *(config.out for config in group)}:
                del self._wanted[place]
            make_room()

    def warm(self, grid: Grid, method: Method, seed: int) -> float:
        """Make the warm-up of a method at a seed where it is not there yet; returns the seconds that it took, none for
        a method without one."""
        if not method.warms_up:
            return 0.0
        place = grid.warmup_folder(method, seed)

        def make() -> dict[str, Any]:
            began = time.monotonic()
            warmup(grid.experiment.warming(method, str(place), seed), self._progress)
            return {"seconds": time.monotonic() - began}

        def in_its_turn() -> float:
            with in_turn(place, self._progress):
                return float(once(place.with_suffix(".json"), {}, make)["seconds"])

        return self.attempts(place, in_its_turn)
