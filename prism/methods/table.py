"""Every method by its name: the recipes of gradient methods, and the baselines."""

from pathlib import Path
from typing import Any

from prism.errors import ConfigError
from prism.methods.baselines import BASELINES, Baseline
from prism.methods.recipe import Recipe, load_recipe

PRISM = "arXiv 2605.21422"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="prism", about="preference-weighted pairs", source=PRISM),
        Recipe(name="prism-ekfac", about="the same through EK-FAC", source=PRISM, curvature="ekfac"),
        Recipe(
            name="prism-kfac-cosine",
            about="PRISM with directions alone, through K-FAC",
            source=PRISM,
            normalise="cosine",
            curvature="kfac",
        ),
        Recipe(name="prism-sharp", about="pairs that the model follows count more", source="ours", weight="prism^3"),
        Recipe(
            name="if-guide",
            about="plain pairs through EK-FAC, at sequence level",
            source="arXiv 2506.01790",
            weight="uniform",
            curvature="ekfac",
        ),
        Recipe(
            name="less",
            about="the best subtask's cosine to Adam's step, over a warm-up",
            source="arXiv 2402.04333",
            target="chosen",
            weight="uniform",
            aggregate="subtask-max",
            candidate_loss="mean",
            candidate_map="adam",
            normalise="cosine",
            checkpoints="all",
        ),
        Recipe(
            name="rose",
            about="LESS with the gradient of the DPO loss as target",
            source="arXiv 2412.00631, from secondary sources",
            target="dpo",
            weight="uniform",
            candidate_loss="mean",
            candidate_map="adam",
            normalise="cosine",
            checkpoints="all",
        ),
        Recipe(
            name="prism-adam",
            about="PRISM's pairs in Adam's steps, over a warm-up",
            source="PRISM's target at LESS's candidates",
            candidate_loss="mean",
            candidate_map="adam",
            normalise="cosine",
            checkpoints="all",
        ),
        Recipe(
            name="tracin",
            about="gradient products along the training",
            source="arXiv 2002.08484",
            target="chosen",
            weight="uniform",
            candidate_loss="mean",
            checkpoints="all",
        ),
        Recipe(
            name="ekfac",
            about="the influence function through EK-FAC",
            source="arXiv 2308.03296",
            target="chosen",
            weight="uniform",
            candidate_loss="mean",
            curvature="ekfac",
        ),
        Recipe(
            name="datainf",
            about="the influence function through a mean of rank-one inverses",
            source="arXiv 2310.00902",
            target="chosen",
            weight="uniform",
            candidate_loss="mean",
            curvature="datainf",
        ),
        Recipe(name="chosen", about="PRISM without y-", source=PRISM, target="chosen"),
        Recipe(name="hard", about="PRISM on the pairs that the model gets wrong", source=PRISM, weight="hard"),
        Recipe(name="boundary", about="PRISM on the pairs in doubt", source=PRISM, weight="boundary"),
        Recipe(name="uniform", about="PRISM without its weights", source=PRISM, weight="uniform"),
        Recipe(name="prism-cosine", about="PRISM with directions alone", source=PRISM, normalise="cosine"),
        Recipe(name="prism-mean", about="PRISM with mean-token candidates", source=PRISM, candidate_loss="mean"),
    )
}
METHODS: dict[str, Recipe | Baseline] = {**RECIPES, **BASELINES}


def find_method(name: str) -> Recipe | Baseline:
    """A row of `METHODS`, or the recipe of a YAML file.

    Raises:
        ConfigError: there is no such method, or the file is malformed.
    """
    if name in METHODS:
        return METHODS[name]
    if name.endswith((".yaml", ".yml")):
        return load_recipe(Path(name).expanduser(), RECIPES)
    raise ConfigError(
        f"there is no method {name!r}; known are {', '.join(METHODS)}, or a recipe's path (.yaml): see prism methods"
    )


def listing() -> list[dict[str, Any]]:
    """JSON-ready: each method's name, kind, description, formula, source and cost; a recipe's fields too."""
    rows = []
    for name, method in METHODS.items():
        kind = "gradient" if isinstance(method, Recipe) else "baseline"
        texts = {key: getattr(method, key) for key in ("about", "formula", "source", "cost")}
        rows.append({"name": name, "kind": kind, **texts})
        if isinstance(method, Recipe):
            rows[-1]["recipe"] = method.model_dump(exclude={"name", "about", "source"})
    return rows
