"""Mixtures of experts: products by sample and expert, whatever the router does."""

from typing import Any

import pytest
import torch

from prism.data import collate
from prism.model import Model
from prism.scoring.backward import StreamingEngine
from prism.scoring.taps import Taps, Untappable
from tests import oracle
from tests.scoring.exactness import check_exact, encoded, random_direction
from tests.scoring.test_families import FAMILIES, Family, build

SIZES = {**FAMILIES["mixtral"].options, "router_jitter_noise": 0.0}


def mixture(tokenizer: Any, which: str, **options: Any) -> Model:
    return Model(build(Family("mixtral", {**SIZES, **options}), len(tokenizer)), tokenizer, which)


@pytest.mark.parametrize("which", ["linear", "experts.down_proj", "layers.1.*gate_up_proj", "gate.weight"])
@pytest.mark.parametrize("busy", [1, 2])
def test_experts_that_many_samples_share_and_experts_that_none_has(which: str, busy: int, tokenizer: Any) -> None:
    """`busy` experts get nearly every token of every sample; another gets none."""
    model = mixture(tokenizer, which, num_experts_per_tok=busy)
    for layer in model.network.model.layers:
        layer.mlp.gate.weight *= torch.tensor([[1.0], [1.0], [1.0], [0.0]])
        shift = layer.post_attention_layernorm.weight.new_tensor([40.0, 20.0, -40.0, -80.0])
        layer.mlp.gate.forward = shifted(layer.mlp.gate, shift)
    samples = encoded(model)
    hits = count_hits(model, samples)
    assert hits[0] == sum(len(s) for s in samples) and 0 in hits
    assert check_exact(model, samples).startswith("backward")


def shifted(gate: Any, shift: torch.Tensor) -> Any:
    """A router that adds `shift` to its logits before it chooses."""

    def forward(hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = torch.nn.functional.linear(hidden, gate.weight) + shift
        weights, chosen = torch.topk(logits.softmax(-1), gate.top_k, dim=-1)
        return logits, weights / weights.sum(-1, keepdim=True), chosen

    return forward


def count_hits(model: Model, samples: Any) -> list[int]:
    experts = model.network.model.layers[0].mlp.experts
    hits = torch.zeros(experts.num_experts, dtype=torch.int64)

    def count(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        hits.add_(torch.bincount(args[1].flatten(), minlength=len(hits)))

    with experts.register_forward_pre_hook(count), torch.no_grad():
        for sample in samples:
            model.network(input_ids=torch.from_numpy(sample.ids)[None])
    return hits.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_any_implementation_and_dtype(dtype: torch.dtype, implementation: str, tokenizer: Any) -> None:
    """The engine's own experts stand in for any of transformers', only while it scores."""
    exact = mixture(tokenizer, "linear")
    model = mixture(tokenizer, "linear")
    model.network.to(dtype).set_experts_implementation(implementation)
    samples = encoded(model)
    v = random_direction(exact)
    engine = StreamingEngine(model, {n: t[None].to(dtype) for n, t in v.tensors.items()}, norms=True)
    forwards = [vars(m).get("forward") for m in model.network.modules()]
    result = engine.score(collate(samples))
    assert [vars(m).get("forward") for m in model.network.modules()] == forwards
    assert model.network.config._experts_implementation == implementation
    bound = 1e-5 if dtype == torch.float32 else 0.05
    for score, sample in zip(result.scores[:, 0].tolist(), samples, strict=True):
        _, gradient = oracle.sample_gradient(exact, sample)
        assert abs(score - oracle.dot(gradient, v.tensors)) <= bound * oracle.norm(gradient) * v.norm()


def test_experts_that_are_spread_over_devices_are_refused_by_name(tokenizer: Any) -> None:
    model = mixture(tokenizer, "linear")
    model.network.model.layers[0].mlp.experts._is_expert_parallel = True
    taps = Taps(model.network, {n: p[None] for n, p in model.parameters.items()}, norms=False)
    batch = collate(encoded(model))
    with (
        pytest.raises(Untappable, match=r"layers.0.mlp.experts.gate_up_proj: experts that are spread"),
        taps.watch(batch),
    ):
        pass
