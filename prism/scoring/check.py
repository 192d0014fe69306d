"""The backward engine against plain autograd, on samples of the user's own."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch

from prism.data import Batch, Encoded, Encoder, Pool, collate, load_pool
from prism.errors import DataError, ModelError, RowError, first_line
from prism.model import Model, token_losses
from prism.model.memory import attempt, out_of_memory
from prism.scoring.backward import StreamingEngine, sample_gradients, single
from prism.scoring.differ import first_difference
from prism.scoring.products import wide
from prism.scoring.taps import Untappable

Maker = Callable[[Model, Mapping[str, torch.Tensor], bool], StreamingEngine]  # from directions, and whether with norms

# How far the streaming pass may be from autograd, relative to each parameter's squared gradient norm, and the part of
# the largest such norm below which a parameter's is rounding and no more.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-9, torch.bfloat16: 1e-3, torch.float16: 1e-3}

TEXTS = [
    ("Say hi.", "Hi!"),
    (
        "Name three fruits, and say which one you like best.",
        "Apples, pears and plums. I like plums, as they are sweet.",
    ),
    ("What is 17 + 25?", "17 + 25 = 42"),
    (
        "Why is the sky blue? Explain it to a child, please.",
        "Air scatters short waves of light more than long ones, so blue light reaches us from all sides of the sky.",
    ),
    ("Write a short poem about the sea.", "The sea is wide,\nthe sea is deep,\nit rocks the tired boats to sleep."),
]


@dataclass(frozen=True)
class CheckReport:
    """What a check found: the engine that will score, why if it is the slow one, and for the other its largest error,
    relative to the squared gradient norm of the parameter that has it."""

    engine: str
    reason: str
    samples: int
    error: float | None
    parameter: str
    module: str
    tolerance: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def check_model(model: Model, samples: Sequence[Encoded]) -> CheckReport:
    """Compare scores and gradient norms of `samples` by the engine that would score them with per-sample autograd.

    Raises:
        ModelError: they are not the same, or the model has no gradients of its own to compare with; by name.
    """
    longest = max(samples, key=len)
    tolerance = tolerance_of(model)
    found: list[tuple[float, str]] = []
    for sample in samples:
        try:
            error, name = self_check(model, collate([sample, longest]).to(model.device))
        except Untappable as refusal:
            return CheckReport("per-sample", str(refusal), len(samples), None, "", "", tolerance)
        if not math.isnan(error):
            found.append((error, name))
    if not found:
        raise ModelError("no check sample has a finite loss and gradient: are the model's weights NaN?")
    error, name = max(found)
    if error > tolerance:
        raise ModelError(
            f"{owner(model, name)} fails the self-check: the streamed products of {name} are off by {error:.1e} of its "
            "squared gradient norm (prism select will score this model sample by sample, exact but slow)"
        )
    return CheckReport("backward", "", len(found), error, name, owner(model, name) if name else "", tolerance)


def first_check(model: Model, probes: Sequence[Encoded], make: Maker = StreamingEngine) -> tuple[float, str]:
    """`self_check` of the first of `probes` that has a finite gradient, from the median length on, beside the longest
    that the memory has room for; (NaN, "") where none has.

    Raises:
        Untappable: the backward engine can't be used, or there is no room for the gradient of any of them.
        ModelError: as `self_check`.
    """
    by_length = sorted(probes, key=len)
    count = len(by_length)
    while count:
        found = attempt(partial(_first_check, model, by_length[:count], by_length[count - 1 : count], make))
        if found is not None:
            return found
        count //= 2
    if not probes:
        return math.nan, ""
    if (found := attempt(partial(_first_check, model, by_length[:1], [], make))) is None:
        raise Untappable("the memory does not suffice for the gradient of any check sample")
    return found


def _first_check(model: Model, probes: Sequence[Encoded], beside: Sequence[Encoded], make: Maker) -> tuple[float, str]:
    middle = len(probes) // 2
    for probe in (*probes[middle:], *probes[:middle]):
        error, name = self_check(model, collate([probe, *beside]).to(model.device), make)
        if not math.isnan(error):
            return error, name
    return math.nan, ""


def self_check(model: Model, batch: Batch, make: Maker = StreamingEngine) -> tuple[float, str]:
    """(largest relative error, parameter) of the engine that `make` makes against autograd, by parameter, on the first
    sample of a batch; (NaN, "") where that sample's loss or gradient is not finite.

    Raises:
        Untappable: the backward engine can't be used for this model and these parameters.
        ModelError: the model can't be differentiated, or a sample's loss is not a function of the sample alone.
    """
    alone = single(batch, 0)
    loss, again = _loss(model, alone), _loss(model, alone)
    if not math.isfinite(loss):
        return math.nan, ""
    tolerance = tolerance_of(model)
    slack = tolerance * (loss + len(alone.labels))
    if not abs(loss - again) <= slack:
        raise ModelError(
            f"the model gives a sample another loss each time, {loss:.6g} and {again:.6g}"
            f"{first_difference(model, alone, alone, tolerance)}: what is random there must be off in evaluation"
        )
    gradients = _finite_gradients(model, batch, alone)
    if gradients is None:
        return math.nan, ""
    zero = {name: torch.zeros_like(p) for name, p in model.parameters.items() if name not in gradients}
    engine = make(model, {n: g.unsqueeze(0) for n, g in {**gradients, **zero}.items()}, True)
    beside = float(engine.settle(batch)[0])
    if not abs(loss - beside) <= slack:
        raise ModelError(
            f"the model gives a sample the loss {loss:.6g} alone, but {beside:.6g} beside a longer one"
            f"{first_difference(model, alone, batch, tolerance)}: padding or neighbours must not matter"
        )
    return _largest_error(model, gradients, engine)


def tolerance_of(model: Model) -> float:
    return TOLERANCE.get(model.precision, 5e-2)


def owner(model: Model, parameter: str) -> str:
    """The module that holds a parameter, with its class."""
    module = parameter.rpartition(".")[0]
    return f"{module} ({type(model.network.get_submodule(module)).__name__})"


def check_samples(encoder: Encoder, pool: Pool | None = None, count: int = 5) -> list[Encoded]:
    """A handful of samples of varied length: the pool's first, or texts of ours.

    Raises:
        DataError: no row of the pool can be used.
    """
    found: list[Encoded] = []
    reason = ""
    for row in pool or load_pool([{"prompt": prompt, "completion": answer} for prompt, answer in TEXTS]):
        try:
            found.append(encoder.row(row))
        except RowError as error:
            reason = reason or f"{row.file}, line {row.line}: {error}"
        if len(found) == count:
            break
    if not found:
        raise DataError(f"no row can be used for the check; the first: {reason}")
    return found


def _largest_error(model: Model, gradients: dict[str, torch.Tensor], engine: StreamingEngine) -> tuple[float, str]:
    true = {name: float(wide(g).square().sum()) for name, g in gradients.items()}
    products, squares = engine.scores(), engine.squares()
    least = ROUNDING.get(model.precision, 1e-3) * max(true.values(), default=0.0)
    worst, where = 0.0, ""
    for name in model.parameters:
        square = true.get(name, 0.0)
        streamed = (float(products[name][0, 0]), float(squares[name][0])) if name in products else (0.0, 0.0)
        scale = max(square, least)
        error = max(abs(value - square) / scale for value in streamed) if scale else max(map(abs, streamed))
        if not error <= worst:  # NaN counts as the worst
            worst, where = error if math.isfinite(error) else math.inf, name
    return worst, where


def _loss(model: Model, sample: Batch) -> float:
    with torch.no_grad():
        return float(token_losses(model.network, sample).sum())


def _finite_gradients(model: Model, batch: Batch, alone: Batch) -> dict[str, torch.Tensor] | None:
    """Gradients of the first sample, by parameter; None where they are not finite.

    In half precision they are taken within the batch where they can be: its rounding is another than that of the
    sample alone, and lets a mixture's router choose other experts.
    """
    half = torch.finfo(model.precision).bits < 32
    for reference in (batch, alone) if half else (alone,):
        gradients = _gradients(model, reference)
        if all(bool(g.isfinite().all()) for g in gradients.values()):
            return gradients
    return None


def _gradients(model: Model, batch: Batch) -> dict[str, torch.Tensor]:
    try:
        return sample_gradients(model, batch, index=0)[1]
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise ModelError(f"a {type(model.network).__name__} can't be differentiated: {first_line(error)}") from error
