"""The whole job on what ships in the package: generate, select, fine-tune on PRISM's and on random rows, compare."""

import random
from dataclasses import dataclass
from pathlib import Path

from prism.config import SelectConfig
from prism.data import Row, load_pool, load_target
from prism.demo import generator
from prism.errors import RunError
from prism.evaluation import Preference, evaluate_preference
from prism.model import load_model
from prism.progress import Progress, Silent
from prism.run.select import Run, run_select
from prism.training import fine_tune

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
    model = load_model(MODEL, dtype="float32")
    encoder = model.encoder()
    pool, held_out = load_pool(pool_file), load_target(held_out_file)
    chosen = [row for row, _ in run.selection.rows()]
    others = random.Random(seed).sample(list(pool), len(chosen))
    preferences = {"before": evaluate_preference(model, held_out, encoder)}
    sets: dict[str, list[Row]] = {"random": others, "PRISM": chosen}
    for name, rows in sets.items():
        progress.note(f"fine-tuning on {len(rows)} {name} rows, {EPOCHS} epochs")
        tuned = fine_tune(model, [encoder.row(row) for row in rows], epochs=EPOCHS, rate=RATE, seed=seed)
        preferences[name] = evaluate_preference(tuned, held_out, encoder)
    return Demo(run, preferences)
