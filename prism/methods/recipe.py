"""A gradient method as data: what makes it differ from the others, and nothing else."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prism.errors import ConfigError
from prism.target import Objective
from prism.target.weights import Weighting, weighting

Aggregate = Literal["mean", "subtask-mean", "subtask-max", "subtask-round-robin"]
CHOSEN = "chosen"  # a weighting of `prism reweigh` that is a target of its own here


class Recipe(BaseModel):
    """One gradient method: the score of a candidate z is

    sum over checkpoints c of eta_c * n(<Gamma(grad L_z), H^-1 g_k>), aggregated over the groups k of the target.

    target: g is the gradient of the pair's difference l(y+) - l(y-) of mean-token losses; of `chosen` l(y+) alone; or
        of the `dpo` loss on summed log-probabilities, whose reference is the base before any warm-up.
    weight: of an item, by its preference pi: a name of `WEIGHTINGS` or prism^GAMMA; for dpo times sigmoid(-margin).
    aggregate: the target is one group (mean), or one for each subtask, whose scores are averaged, or of which the best
        counts, or which take turns.
    candidate_loss: L_z sums the losses of the response's tokens, or is their mean.
    candidate_map: Gamma is the identity, Adam's step from a checkpoint's moments, or the sign.
    normalise: n divides by nothing, by the norms of both sides (cosine), or by the response's tokens.
    checkpoints: the model as it is (one), or all of `--checkpoints`, weighted by their learning rates eta_c.
    curvature: H, where `--curvature` names no other.
    beta: of the dpo loss.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=60, pattern=r"^[\w][\w.^+-]*$")
    about: str = ""
    source: str = ""
    target: Literal["pair", "chosen", "dpo"] = "pair"
    weight: str = "prism"
    aggregate: Aggregate = "mean"
    candidate_loss: Literal["sum", "mean"] = "sum"
    candidate_map: Literal["identity", "adam", "sign"] = "identity"
    normalise: Literal["none", "cosine", "token"] = "none"
    checkpoints: Literal["one", "all"] = "one"
    curvature: Literal["identity", "diagonal", "adam", "kfac", "ekfac", "cg", "datainf"] = "identity"
    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.weight == CHOSEN:
            raise ValueError("weight chosen is two things here: write target: chosen and weight: prism")
        try:
            weighting(self.weight)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def objective(self) -> Objective:
        """What the target's gradient is taken of."""
        return Objective(self.target, self._weights, self.aggregate != "mean", self.beta)

    def require_preferences(self, option: str) -> None:
        """Raises ConfigError where weights come from no preference, so that an `option` that says whose has no use."""
        if not self.objective.weights.of_preference:
            raise ConfigError(f"{option}: the method {self.name} weighs all pairs alike, so leave it out")

    @property
    def plain(self) -> bool:
        """Whether a score is <grad L_z, v> with one direction v, so that one pass gives it as it stands."""
        return (self.aggregate, self.candidate_loss, self.candidate_map, self.normalise, self.checkpoints) == (
            "mean",
            "sum",
            "identity",
            "none",
            "one",
        )

    @property
    def linear(self) -> bool:
        """Whether a score is a row's own factor times the product of its gradient with one direction, so that it splits
        by tokens and by target pairs."""
        return self.aggregate == "mean" and self.candidate_map == "identity" and self.checkpoints == "one"

    @property
    def _weights(self) -> Weighting:
        return weighting(self.weight)

    @property
    def formula(self) -> str:
        """In one line: g for a gradient, l and L for mean-token and summed losses, H for the curvature."""
        weight = self._weights.about.partition(":")[0]
        weight = {"1": "", "1 - pi": "(1 - pi) "}.get(weight, f"{weight} ")
        beta = f"{self.beta:g}"
        inner = {
            "pair": f"{weight}(g l(y+) - g l(y-))",
            "chosen": f"{weight}g l(y+)",
            "dpo": f"{weight}g[-log sigmoid({beta} margin)]",
        }[self.target]
        group = {"mean": "mean_q"}.get(self.aggregate, "mean_{q in k}")
        right = f"{group} {inner}"
        right = right if self.curvature == "identity" else f"H^-1 {right}"
        left = {"sum": "g L(z)", "mean": "g l(z)"}[self.candidate_loss]
        left = {"identity": left, "adam": f"Adam({left})", "sign": f"sign({left})"}[self.candidate_map]
        product = {"none": "<{}, {}>", "cosine": "cos({}, {})", "token": "<{}, {}> / |z|"}[self.normalise]
        text = product.format(left, right)
        text = f"sum_c eta_c {text}" if self.checkpoints == "all" else text
        return {"mean": "{}", "subtask-mean": "mean_k {}", "subtask-max": "max_k {}"}.get(
            self.aggregate, "round-robin_k {}"
        ).format(text)

    @property
    def cost(self) -> str:
        """What it takes, in passes over the pool at the price of training on it."""
        mapped = self.candidate_map != "identity"
        each = "1 pass that forms sample gradients" if mapped else "1 pass"
        each += " with K directions" if self.aggregate != "mean" else ""
        each += " and norms" if self.normalise == "cosine" and not mapped else ""
        each = f"N x ({each}), after a warm-up" if self.checkpoints == "all" else each
        return each if self.curvature == "identity" else f"{each}; fitting the curvature"


def load_recipe(path: Path, known: dict[str, Recipe]) -> Recipe:
    """The recipe of a YAML file: the fields of `Recipe`, and `base`, the name of a `known` one to begin with.

    Raises:
        ConfigError: the file can't be read, a field is unknown or malformed, or there is no such base.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the method {path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"the method {path} must be a mapping of fields, such as target: pair")
    given = {str(name).replace("-", "_"): value for name, value in fields.items()}
    base = given.pop("base", None)
    start: dict[str, Any] = {}
    if base is not None:
        if base not in known:
            raise ConfigError(f"the method {path} builds on {base!r}, which is none of {', '.join(known)}")
        start = known[base].model_dump() | {"about": f"{base}, changed by {path.name}"}
    try:
        return Recipe.model_validate({**start, "name": path.stem, **given})
    except ValidationError as error:
        reasons = [
            f"{'.'.join(map(str, problem['loc'])) or 'recipe'}: {_reason(problem)}" for problem in error.errors()
        ]
        raise ConfigError(f"the method {path}: {'; '.join(reasons)}") from error


def _reason(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return f"is no field of a method; known are base, {', '.join(Recipe.model_fields)}"
    return str(problem["msg"]).removeprefix("Value error, ")
