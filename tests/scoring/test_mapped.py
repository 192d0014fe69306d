"""Mapped scores against per-sample autograd in float64, and Adam's map against real steps of torch.optim.AdamW."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from prism.data import Encoded, collate
from prism.model import Model
from prism.scoring import products
from prism.scoring.choose import Chosen
from prism.scoring.engine import BatchScores
from prism.scoring.mapped import AdamMap, CandidateMap, MappedEngine, MappedLoop, Moments, SignMap, mapped_engine
from prism.scoring.scorer import Scorer
from tests import oracle
from tests.conftest import tiny_llama
from tests.oracle import Gradients
from tests.scoring.exactness import encoded
from tests.scoring.test_families import FAMILIES, build, with_lora

COUNT = 3  # directions
BETAS, EPS, STEP = (0.8, 0.95), 1e-6, 4


def make(name: str, which: str, tokenizer: Any) -> Model:
    network = build(FAMILIES[name], len(tokenizer))
    return Model(with_lora(network) if which == "lora" else network, tokenizer, which)


def directions(model: Model) -> Gradients:
    source = torch.Generator().manual_seed(4)
    shapes = {n: (COUNT, *p.shape) for n, p in model.parameters.items()}
    return {n: torch.randn(shape, generator=source, dtype=torch.float64) for n, shape in shapes.items()}


def mean_gradients(model: Model, samples: Sequence[Encoded]) -> list[Gradients]:
    found = ((s.response_tokens, oracle.sample_gradient(model, s)[1]) for s in samples)
    return [{name: g / tokens for name, g in gradient.items()} for tokens, gradient in found]


def moments_of(gradients: Sequence[Gradients]) -> Moments:
    """After steps on these, so that a sample's own gradient matters as much as they do."""
    names = gradients[0]
    parameters = {n: torch.zeros_like(g) for n, g in names.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, betas=BETAS, eps=EPS, weight_decay=0.0)
    for gradient in gradients[:STEP]:
        for name, parameter in parameters.items():
            parameter.grad = gradient[name].clone()
        optimizer.step()
    held = {n: optimizer.state[p] for n, p in parameters.items()}
    first, second = ({n: s[key].clone() for n, s in held.items()} for key in ("exp_avg", "exp_avg_sq"))
    return Moments(first, second, dict.fromkeys(names, STEP), BETAS, EPS, 1e-3)


def stepped(moments: Moments, gradient: Gradients) -> Gradients:
    """What AdamW itself subtracts from the weights on this gradient, for a learning rate of one."""
    parameters = {n: torch.zeros_like(g) for n, g in gradient.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1.0, betas=BETAS, eps=EPS, weight_decay=0.0)
    for name, parameter in parameters.items():
        parameter.grad = gradient[name].clone()
        optimizer.state[parameter] = {
            "step": torch.tensor(float(moments.steps[name])),
            "exp_avg": moments.first[name].clone(),
            "exp_avg_sq": moments.second[name].clone(),
        }
    optimizer.step()
    return {name: -parameter for name, parameter in parameters.items()}


def check(result: BatchScores, mapped: Sequence[Gradients], v: Gradients, bound: float = 1e-10) -> None:
    assert result.norms is not None
    for i, gamma in enumerate(mapped):
        size = oracle.norm(gamma)
        assert abs(float(result.norms[i]) - size) <= bound * size
        for k in range(COUNT):
            direction = {name: t[k] for name, t in v.items()}
            error = abs(float(result.scores[i, k]) - oracle.dot(gamma, direction))
            assert error <= bound * size * oracle.norm(direction)


FAST = ("llama", "llama-tied", "gpt2", "qwen3-moe")
CASES = [(name, which) for name in FAST for which in ("lora", "linear", "all")] + [("gpt-oss", "lora"), ("opt", "all")]


@pytest.mark.parametrize(("name", "which"), CASES)
def test_adams_map_is_what_a_step_of_adamw_subtracts(name: str, which: str, tokenizer: Any) -> None:
    model = make(name, which, tokenizer)
    samples = encoded(model)
    gradients = mean_gradients(model, samples)
    moments, v = moments_of(gradients), directions(model)
    engine, why = mapped_engine(model, v, AdamMap(moments), mean_loss=True, norms=True, probes=samples)
    assert isinstance(engine, MappedEngine), why
    result = engine.score(collate(samples))
    check(result, [stepped(moments, gradient) for gradient in gradients], v)
    for sample, loss in zip(samples, result.losses.tolist(), strict=True):
        assert loss == pytest.approx(oracle.sample_gradient(model, sample)[0], rel=1e-10)


@pytest.mark.parametrize(("name", "which"), [("mamba", "all"), ("gpt-oss", "all")])
def test_what_can_not_be_streamed_goes_sample_by_sample(name: str, which: str, tokenizer: Any) -> None:
    model = make(name, which, tokenizer)
    samples = encoded(model)
    gradients = mean_gradients(model, samples)
    moments, v = moments_of(gradients), directions(model)
    engine, why = mapped_engine(model, v, AdamMap(moments), mean_loss=True, norms=True, probes=samples)
    assert isinstance(engine, MappedLoop) and why.startswith("mapped per-sample engine, exact but slow")
    check(engine.score(collate(samples)), [stepped(moments, gradient) for gradient in gradients], v)


class Cubed:
    """A map of our own, which no product of sums can stand in for."""

    def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
        return gradients**3


@pytest.mark.parametrize("mapping", [Cubed(), SignMap()])
@pytest.mark.parametrize("tile", [1, 3000, 1 << 24])
@pytest.mark.parametrize("name", ["llama-tied", "qwen3-moe", "gpt2"])
def test_any_tiling_of_the_summed_loss(
    name: str, tile: int, mapping: CandidateMap, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "TILE", tile)
    which = "linear" if isinstance(mapping, SignMap) else "all"  # of zero but for rounding, the sign is noise
    model = make(name, which, tokenizer)
    samples = encoded(model)
    v = directions(model)
    engine = MappedEngine(model, v, mapping, mean_loss=False, norms=True)
    gradients = [oracle.sample_gradient(model, sample)[1] for sample in samples]
    mapped = [{n: mapping(n, g[None])[0] for n, g in gradient.items()} for gradient in gradients]
    check(engine.score(collate(samples)), mapped, v)


def test_a_layer_that_runs_twice_counts_once(tokenizer: Any) -> None:
    """Its gradient is the sum of both uses, which is complete only at the end of the pass."""
    network = tiny_llama(len(tokenizer)).double()
    network.config.use_cache = False  # which the second use would fill again
    network.model.layers[1] = network.model.layers[0]
    model = Model(network, tokenizer, "all")
    samples = encoded(model)
    v = directions(model)
    engine, why = mapped_engine(model, v, Cubed(), mean_loss=False, norms=True, probes=samples)
    assert isinstance(engine, MappedEngine), why
    gradients = [oracle.sample_gradient(model, sample)[1] for sample in samples]
    check(engine.score(collate(samples)), [{n: g**3 for n, g in gradient.items()} for gradient in gradients], v)


def test_scores_do_not_depend_on_the_neighbours(tokenizer: Any) -> None:
    """Experts that a sample alone leaves idle have Gamma(0), which is not zero."""
    model = make("qwen3-moe", "linear", tokenizer)
    samples = encoded(model)
    moments, v = moments_of(mean_gradients(model, samples)), directions(model)
    engine = MappedEngine(model, v, AdamMap(moments), mean_loss=True, norms=True)
    together = engine.score(collate(samples))
    for i, sample in enumerate(samples):
        alone = engine.score(collate([sample]))
        assert torch.allclose(alone.scores[0], together.scores[i], rtol=1e-10, atol=0)


def test_out_of_memory_halves_the_batches(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.model.memory.make_room", lambda: None)
    model = make("llama", "linear", tokenizer)
    samples = encoded(model)
    moments, v = moments_of(mean_gradients(model, samples)), directions(model)
    engine = MappedEngine(model, v, AdamMap(moments), mean_loss=True, norms=True)
    whole = engine.score(collate(samples))

    class Small:
        """A device with room for the gradients of two samples."""

        def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
            if len(gradients) > 2:
                raise torch.OutOfMemoryError
            return AdamMap(moments)(name, gradients)

    small = MappedEngine(model, v, Small(), mean_loss=True, norms=True)
    scored = Scorer(model, Chosen(small, ""), COUNT, 1000).score(samples, lambda *_: None)
    assert scored.fits.all() and scored.notes["batch_tokens"] < 1000
    assert torch.allclose(torch.from_numpy(scored.scores), whole.scores, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_narrow_models_are_mapped_in_float32(dtype: torch.dtype, bound: float, tokenizer: Any) -> None:
    exact, narrow = make("llama", "linear", tokenizer), make("llama", "linear", tokenizer)
    narrow.network.to(dtype)
    samples = encoded(exact)
    gradients = mean_gradients(exact, samples)
    moments, v = moments_of(gradients), directions(exact)
    engine = MappedEngine(narrow, {n: t.float() for n, t in v.items()}, AdamMap(moments), mean_loss=True, norms=True)
    result = engine.score(collate(samples))
    assert result.scores.dtype == torch.float32
    check(result, [stepped(moments, gradient) for gradient in gradients], v, bound)


@pytest.mark.parametrize("mapping", ["adam", "sign"])
def test_float16_neither_vanishes_nor_overflows(mapping: str, tokenizer: Any) -> None:
    """Losses are scaled in the graph, and gradients back before the map, which is not linear."""
    exact, half = make("llama", "linear", tokenizer), make("llama", "linear", tokenizer)
    half.network.half()
    samples = encoded(exact)
    gradients = mean_gradients(exact, samples)
    moments, v = moments_of(gradients), directions(exact)
    gamma: CandidateMap = AdamMap(moments) if mapping == "adam" else SignMap()
    small = {n: t.float() for n, t in v.items()}
    engine = MappedEngine(half, small, gamma, mean_loss=True, norms=True)
    assert engine.scale is not None
    for start in (engine.scale.value, 2.0**40):
        engine.scale.value = start
        result = engine.score(collate(samples))
        mapped = [{n: gamma(n, g[None])[0] for n, g in gradient.items()} for gradient in gradients]
        check(result, mapped, v, 0.05)


def test_what_it_forms_is_what_it_holds(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than a tile of gradients, or one sample's of one parameter where that is larger."""
    monkeypatch.setattr(products, "TILE", 2000)
    model = make("llama", "all", tokenizer)
    samples = encoded(model)
    largest = max(p.numel() for p in model.parameters.values())
    seen: list[int] = []

    class Watched:
        def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
            seen.append(gradients.numel())
            assert len(gradients) == 1 or gradients.numel() <= 2000
            return gradients

    MappedEngine(model, directions(model), Watched(), mean_loss=True, norms=True).score(collate(samples))
    assert max(seen) == largest < sum(p.numel() for p in model.parameters.values())


@pytest.mark.parametrize("loop", [False, True])
def test_broken_samples_show_whatever_the_map(loop: bool, tokenizer: Any) -> None:
    """The sign of NaN is zero in torch."""
    model = make("llama", "linear", tokenizer)
    token = tokenizer("zebra", add_special_tokens=False)["input_ids"][-1]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[token] = torch.nan
    samples = [*encoded(model), *encoded(model, [{"prompt": "Which animal is striped?", "completion": "A zebra"}])]
    make_engine = MappedLoop if loop else MappedEngine
    result = make_engine(model, directions(model), SignMap(), mean_loss=True, norms=True).score(collate(samples))
    assert result.norms is not None
    assert result.scores[:-1].isfinite().all() and result.norms[:-1].isfinite().all()
    assert result.scores[-1].isnan().all() and result.norms[-1].isnan()
