"""Several runs over one pool that differ in their directions alone: one pass scores them all."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prism.config import SelectConfig, bytes_of
from prism.errors import PrismError
from prism.methods.maps import require_weights
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.progress import Progress
from prism.run.folder import RunFolder
from prism.run.joint_pass import Common, JointRun, score_at
from prism.run.prepare import open_job
from prism.run.provenance import circumstances
from prism.run.recipes import part_of, parts_of

OF_A_DIRECTION = {
    "target_columns",
    "curvature",
    "curvature_samples",
    "curvature_labels",
    "damping",
    "cg_tolerance",
    "cg_iterations",
    "gradient_norms",
}  # scoring options that runs of one pass may differ in
SHARED = (
    "model", "adapter", "tokenizer", "revision", "checkpoints", "pool", "on_bad_row", "direction_memory", "device",
)  # fmt: skip


def together(configs: Sequence[SelectConfig]) -> list[list[SelectConfig]]:
    """Those whose runs one pass can serve, in groups of two and more: <Gamma(grad L_z), v> with directions v of each,
    along the same checkpoints, over one pool, encoded alike.

    Raises:
        ConfigError: there is no such method.
    """
    groups: dict[str, list[SelectConfig]] = {}
    for config in configs:
        recipe = find_method(config.method)
        if isinstance(recipe, Recipe) and config.engine != "forward" and not config.pair_scores:
            options = {name: value for name, value in config.stage("scoring").items() if name not in OF_A_DIRECTION}
            formed = (recipe.candidate_map, recipe.candidate_loss) if recipe.candidate_map != "identity" else None
            key = repr([options, formed, *(getattr(config, name) for name in SHARED)])
            groups.setdefault(key, []).append(config)
    return [group for group in groups.values() if len(group) > 1]


def score_together(configs: Sequence[SelectConfig], progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fill the run folders of a group of `together` by one pass for each checkpoint, so that `run_select` finds every
    score there; as many directions a pass as `direction_memory` holds, and what passes were for is told when they are
    over.

    A run that is finished, or whose target can't be measured, is left to itself, and what it would say then is said
    here.

    Yields:
        A folder, and what its scores took: `seconds`, with the passes in full; `tokens` through the model;
        `reused_rows`, which were there already; and how many runs had the passes (`together`).
    """
    with ExitStack() as stack:
        runs = [run for config in configs if (run := _opened(config.absolute(), stack, progress)) is not None]
        if len(runs) < 2:
            return
        common = Common(runs[0].job, progress)
        each = common.size(min(run.first for run in runs))
        room = bytes_of(runs[0].job.config.direction_memory) // each
        if room < 2:
            progress.note(f"two directions take {2 * each / 1e9:.2g} GB, more than direction_memory: a pass for each")
            return
        for some in _fitting(runs, room):
            reused = 0
            for number in range(len(common.job.checkpoints)):
                reused += score_at(number, some, common, progress)
            done = [run for run in some if all(run.finished(part) for part in run.parts)]
            for run in done if len(done) > 1 else []:
                cost = {"seconds": run.seconds, "tokens": run.tokens, "reused_rows": reused // len(run.parts)}
                yield run.job.config.out, {**cost, "together": len(done)}


def _opened(config: SelectConfig, stack: ExitStack, progress: Progress) -> JointRun | None:
    """The run of a config in its folder, where it has a part in the pass."""
    try:
        job = open_job(config)
        recipe = job.method
        assert isinstance(recipe, Recipe)
        if recipe.checkpoints == "all":
            require_weights([checkpoint.path for checkpoint in job.checkpoints if checkpoint.path])
        folder = RunFolder(Path(config.out))
        stack.callback(folder.close)
        if folder.finished:
            return None
        folder.check(job.identity())
        job.require_data()
        run = JointRun(job, recipe, folder, [part_of(job, folder)] if recipe.plain else list(parts_of(job, folder)))
        if all(run.finished(part) for part in run.parts):
            return None
        folder.claim(circumstances(config.seed))
        config.save(folder.path / "config.yaml")
        return run
    except PrismError as error:
        progress.note(f"{config.method} is left out of the pass for several methods: {error}")
        return None


def _fitting(runs: Sequence[JointRun], room: int) -> Iterator[list[JointRun]]:
    """Runs in order, as many at a time as have room for their directions; one that would be alone is left out."""
    some: list[JointRun] = []
    for run in runs:
        if run.directions > room:
            continue
        if sum(one.directions for one in [*some, run]) > room:
            if len(some) > 1:
                yield some
            some = []
        some = [*some, run]
    if len(some) > 1:
        yield some
