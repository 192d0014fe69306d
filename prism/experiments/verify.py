"""`prism verify`: whether the theory holds on a run of the user's own."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from prism.config import SelectConfig, load_config
from prism.data import Row, open_target
from prism.errors import ConfigError, RunError
from prism.evaluation import measure_pairs
from prism.experiments.first_order import by_plain_descent, dot, mean_gradient, steps
from prism.experiments.lds import Flags, Measured, draw_subsets, score
from prism.experiments.lds_methods import method_sums, require_methods
from prism.experiments.options import require_trainer
from prism.experiments.statistics import plain
from prism.experiments.steps import Place, base_of, evaluated, fine_tuned, for_base
from prism.experiments.verify_config import VerifyConfig
from prism.experiments.verify_report import markdown
from prism.experiments.work import once, save_json, workplace
from prism.files import write_whole
from prism.progress import Progress, recorded
from prism.run.prepare import load, open_job
from prism.run.select import load_selection
from prism.scoring import ScoreTable
from prism.selection import Selection
from prism.selection.selection import finite_rows, json_line
from prism.target import measure_target
from prism.training.folder import read_record


def verify(config: VerifyConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Compare what scores foretell with what steps, trainings and, with `config.lds`, retrainings on random subsets do.

    Everything lands in `config.out`: `verify.json`, `verify.md`, and what was trained. Finished parts are not done
    again.

    Raises:
        PrismError: with what is wrong and what to do.
    """
    progress = recorded(progress)
    run = Path(config.run).expanduser().absolute()
    selection = load_selection(run)
    settings = load_config(run / "config.yaml", {"out": str(run)})
    if config.methods and not config.lds:
        raise ConfigError("--methods: other methods are compared by the linear datamodeling score only: add --lds")
    require_methods(config.methods, config.checkpoints, settings)
    if config.training or config.lds:
        require_trainer(config.train)
    with workplace(Path(config.out or f"{run}-verify"), "verify", config.seed) as folder:
        job = _Verification(config, settings, selection, folder, progress)
        found: dict[str, Any] = {
            "out": str(folder),
            "run": str(run),
            "method": settings.method,
            "curvature": settings.curvature,
            "rows": len(selection),
            "pool": len(selection.scores),
            "one_step": job.one_step(),
            "training": job.training() if config.training else None,
            "lds": job.lds() if config.lds else None,
        }
        found = plain(found)
        save_json(folder / "verify.json", found)
        write_whole(folder / "verify.md", markdown(found))
    return found


class _Verification:
    """One run to verify, and what its parts share."""

    def __init__(
        self, config: VerifyConfig, settings: SelectConfig, selection: Selection, folder: Path, progress: Progress
    ) -> None:
        self.config, self.settings, self.selection = config, settings, selection
        self.folder, self.progress = folder, progress
        self.scores: ScoreTable = selection.scores
        manifest = json.loads((Path(settings.out) / "manifest.json").read_text(encoding="utf-8"))
        held_out = open_target(config.held_out, columns=settings.target_columns).fingerprints if config.held_out else {}
        self.inputs = {
            "run": manifest["fingerprint"],
            "chosen": np.sort(self.scores.column("index")[selection.places]).tolist(),
            "held_out": list(held_out.values()),
            "seed": config.seed,
        }

    def one_step(self) -> dict[str, Any]:
        """A step on the chosen rows, and one on as many random rows, in several sizes."""
        inputs = {**self.inputs, "sizes": self.config.sizes, "dtype": self._wide().dtype}
        return once(self.folder / "one_step.json", inputs, self._one_step)

    def _wide(self) -> SelectConfig:
        """The run's options as a step is taken by: in float32 unless a type was chosen, as 16 bits round short steps
        away."""
        settings = self.settings
        narrow = settings.dtype == "auto" and settings.quantize is None
        return settings.model_copy(update={"dtype": "float32"}) if narrow else settings

    def _one_step(self) -> dict[str, Any]:
        settings, progress = self._wide(), self.progress
        job = open_job(settings)
        model, encoder = load(job.scored, progress)
        target = open_target(settings.target, columns=settings.target_columns)
        direction = measure_target(
            model, target, encoder, batch_tokens=settings.batch_tokens, progress=progress
        ).direction.tensors
        sets = [target]
        if self.config.held_out:
            sets.append(open_target(self.config.held_out, columns=settings.target_columns))

        def measure() -> list[float]:
            found = [measure_pairs(model, pairs, encoder, batch_tokens=settings.batch_tokens) for pairs in sets]
            return [float(f.values()["potential"][f.finite].mean()) for f in found]

        found: dict[str, Any] = {
            "before": measure(),
            "precision": str(model.precision).removeprefix("torch."),
            "weights": sum(p.numel() for p in model.parameters.values()),
        }
        for name, rows in (("chosen", self._chosen()), ("random", self._random())):
            progress.note(f"one step on {len(rows)} {name} rows")
            gradient = mean_gradient(model, [encoder.row(row) for row in rows], settings.batch_tokens)
            made = steps(model, gradient, direction, self.config.sizes, measure)
            found[name] = {
                "rows": len(rows),
                "slope": dot(gradient, direction),
                "steps": [{**asdict(step), "ratio": step.ratio} for step in made],
            }
        values = self.scores.column("score")[self.selection.places]
        found["mean_score"] = float(values.mean())
        return found

    def training(self) -> dict[str, Any]:
        """A whole training on the chosen rows, and one on as many random ones."""
        base = base_of(self.settings)
        random = self.folder / "random.jsonl"
        write_whole(random, (f"{json_line(row.record)}\n".encode() for row in self._random()))
        settings = for_base(base, self.settings, self.config.train)
        before = self._measured("base", base, settings)
        slopes = self.one_step()
        found: dict[str, Any] = {"before": before, "weights": slopes.get("weights")}
        own = self.config.train.get("trainer") or {}
        options = {**self.config.train, "trainer": {"logging_steps": 1, **own}}  # what is foretold adds up all steps
        for name, data in (("chosen", Path(self.settings.out) / "selected.jsonl"), ("random", random)):
            self.progress.note(f"training on the {name} rows")
            out = self.folder / f"training-{name}"
            place = fine_tuned(base, [data], out, self.settings, options, self.progress, seed=self.config.seed)
            after = self._measured(name, place, settings)
            record = read_record(out)
            assert record is not None
            found[name] = {
                "predicted": by_plain_descent(record, slopes[name], slopes.get("weights")),
                "trained": record["trained_parameters"],
                "changes": {part: {k: after[part][k] - before[part][k] for k in before[part]} for part in before},
                "optimizer": record["settings"]["trainer"].get("optim", "adamw"),
                "steps": record["steps"],
            }
        return found

    def _measured(self, name: str, place: Place, settings: SelectConfig) -> dict[str, dict[str, float]]:
        """K and the mean preference, of target and held-out pairs."""
        sets = {"target": self.settings.target, **({"held_out": self.config.held_out} if self.config.held_out else {})}
        found = {}
        for part, pairs in sets.items():
            folder = self.folder / "evaluation" / f"{name}-{part}"
            figures = evaluated(place, pairs, [], folder, settings, {}, self.progress)
            found[part] = {key: figures[key]["value"] for key in ("potential", "preference")}
        return found

    def lds(self) -> dict[str, Any]:
        """Scores of all methods first, as they cost least and refuse what can't be; then a training per subset."""
        config, names = self.config, list(dict.fromkeys([self.settings.method, *self.config.methods]))
        among = finite_rows(self.scores)
        if config.rows is not None:
            chosen = np.random.default_rng([config.seed, 1 << 20]).permutation(np.flatnonzero(among))[: config.rows]
            among = np.isin(np.arange(len(among)), chosen)
        share = float(config.subset_share.rstrip("% ")) / 100
        subsets = draw_subsets(len(self.scores), share, config.subsets, config.seed, among)
        sums = {
            name: method_sums(name, self.settings, config.checkpoints, subsets, self.folder / "lds", self.progress)
            for name in names
        }
        measured = [self._subset(number, subset) for number, subset in enumerate(subsets)]
        ids = measured[0]["ids"]
        together = Measured(
            ids,
            np.array([m["margins"] for m in measured], np.float64),
            np.array([m["preference"] for m in measured], np.float64),
            np.array([m["held_out"] for m in measured], np.float64) if config.held_out else None,
        )
        return {
            "subsets": config.subsets,
            "share": config.subset_share,
            "rows": int(among.sum()),
            "spread": float(together.preference.std(ddof=1)),
            "methods": {n: score(*sums[n], measured=together, seed=config.seed) for n in names},
        }

    def _subset(self, number: int, subset: Flags) -> dict[str, Any]:
        path = self.folder / "lds" / f"subset-{number:03d}.json"
        inputs = {**self.inputs, "chosen": None, "rows": np.flatnonzero(subset).tolist(), "train": self.config.train}
        return once(path, inputs, lambda: self._retrain(number, subset))

    def _retrain(self, number: int, subset: Flags) -> dict[str, Any]:
        settings, folder = self.settings, self.folder / "lds" / f"subset-{number:03d}"
        self.progress.note(f"subset {number + 1} of {self.config.subsets}: {int(subset.sum())} rows")
        folder.mkdir(parents=True, exist_ok=True)
        index = set(self.scores.column("index")[subset].tolist())
        data = folder / "rows.jsonl"
        write_whole(data, (f"{json_line(row.record)}\n".encode() for row in self.scores.pool if row.index in index))
        place = fine_tuned(
            base_of(settings),
            [data],
            folder / "model",
            settings,
            self.config.train,
            self.progress,
            seed=self.config.seed,
        )
        target = evaluated(place, settings.target, [], folder / "target", settings, {"resamples": 1}, self.progress)
        held_out = None
        if self.config.held_out:
            pairs = self.config.held_out
            other = evaluated(place, pairs, [], folder / "held-out", settings, {"resamples": 1}, self.progress)
            held_out = other["preference"]["value"]
        shutil.rmtree(folder)
        values = target["values"]
        margins = [
            None if c is None else r - c for c, r in zip(values["loss_chosen"], values["loss_rejected"], strict=True)
        ]
        if None in margins:
            raise RunError(f"a pair of the target has no finite loss after training on subset {number}: see run.log")
        return {
            "ids": values["id"],
            "margins": margins,
            "preference": target["preference"]["value"],
            "held_out": held_out,
        }

    def _chosen(self) -> list[Row]:
        return [row for row, _ in self.selection.rows()]

    def _random(self) -> list[Row]:
        """As many rows with a score as were chosen, drawn at random."""
        candidates = np.flatnonzero(finite_rows(self.scores))
        rng = np.random.default_rng(self.config.seed)
        drawn = rng.choice(candidates, min(len(self.selection), len(candidates)), replace=False)
        wanted = sorted(self.scores.column("index")[drawn].tolist())
        return [row for row in self.scores.pool.pick(wanted) if isinstance(row, Row)]
