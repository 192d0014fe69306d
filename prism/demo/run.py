"""The whole job on what ships in the package: generate, select, fine-tune on PRISM's and on random rows, compare."""

import random
from dataclasses import dataclass
from pathlib import Path

from prism.config import SelectConfig
from prism.data import Target, load_pool, load_target
from prism.demo import generator
from prism.errors import RunError
from prism.evaluation import Preference, evaluate_preference
from prism.files import write_whole
from prism.model import load_model
from prism.progress import Progress, Silent
from prism.run.select import Run, run_select
from prism.selection.selection import json_line
from prism.training import TrainConfig, train

MODEL = Path(__file__).parent / "model"
EPOCHS, RATE = 2, 1e-3


@dataclass(frozen=True)
class Demo:
    """Held-out preference of the base model and of its two fine-tuned copies, and the run that made the selection."""

    run: Run
    preferences: dict[str, Preference]


def run_demo(out: Path, *, budget: str = "5%", seed: int = 0, progress: Progress | None = None) -> Demo:
    """Everything offline, in about a minute on two cores; data in `out/data`, the run in `out/run`.

    Raises:
        RunError: `out` can't be written, or holds another run.
    """
    progress = progress or Silent()
    try:
        (out / "data").mkdir(parents=True, exist_ok=True)
        pool_file, target_file, held_out_file = generator.write(out / "data", seed=seed)
    except OSError as error:
        raise RunError(f"{out} can't be written: {error.strerror or error}") from error
    config = SelectConfig(
        model=str(MODEL),
        pool=[str(pool_file)],
        target=[str(target_file)],
        budget=budget,
        out=str(out / "run"),
        dtype="float32",
        seed=seed,
    )
    run = run_select(config, progress)
    others = random.Random(seed).sample(list(load_pool(pool_file)), len(run.selection))
    random_file = out / "data" / "random.jsonl"
    write_whole(random_file, "".join(json_line(row.record) + "\n" for row in others))
    held_out = load_target(held_out_file)
    preferences = {"before": _preference(str(MODEL), held_out)}
    for name, data in {"random": random_file, "PRISM": out / "run"}.items():
        tuning = TrainConfig(
            data=[str(data)],
            model=str(MODEL),
            out=str(out / "tuned" / name.lower()),
            full=True,
            epochs=EPOCHS,
            learning_rate=RATE,
            dtype="float32",
            seed=seed,
        )
        preferences[name] = _preference(train(tuning, progress).model_place[0], held_out)
    return Demo(run, preferences)


def _preference(model: str, held_out: Target) -> Preference:
    loaded = load_model(model, dtype="float32")
    return evaluate_preference(loaded, held_out, loaded.encoder())
