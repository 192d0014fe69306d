"""The Gauss-Newton product, conjugate gradients on it, and how near the factored curvatures come."""

from typing import Any

import numpy as np
import pytest
import torch

from prism.curvature import Damping
from prism.curvature.gauss_newton import ConjugateGradients, GaussNewton, conjugate_gradients
from prism.curvature.sample import FitSamples
from prism.data import Encoded
from prism.model import Model
from prism.progress import Silent
from prism.target import Direction
from tests.conftest import tiny_gpt2, tiny_llama
from tests.curvature import dense
from tests.curvature.test_fit import fitted, lora, random_direction

VOCABULARY = 17


def texts(count: int, seed: int) -> list[Encoded]:
    """Sequences in which each token says much of the next; the loss is on their second part."""
    generator = np.random.default_rng(seed)
    after = np.random.default_rng(0).integers(0, VOCABULARY, (VOCABULARY, 3))
    found = []
    for _ in range(count):
        ids = [int(generator.integers(VOCABULARY))]
        for _ in range(int(generator.integers(5, 12))):
            ids.append(int(after[ids[-1], generator.integers(3)]))
        response = np.arange(len(ids)) >= generator.integers(1, len(ids) - 1)
        found.append(Encoded(np.array(ids), response))
    return found


def labelled(model: Model, samples: list[Encoded], budget: int = 60, seed: int = 1) -> FitSamples:
    """With labels drawn from the model by other means than the fit's own."""
    torch.manual_seed(seed)
    labels = []
    for sample in samples:
        with torch.no_grad():
            p = torch.softmax(dense.logits(model.network, sample), -1)
        labels.append(torch.multinomial(p, 1)[:, 0])
    return FitSamples(samples, labels, "model", 0, budget)


def small(**changes: Any) -> Any:
    shape = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    return tiny_llama(VOCABULARY, **{**shape, "num_key_value_heads": 1, **changes})


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors.values()])


@pytest.mark.parametrize("which", ["linear", "all", "lora"])
def test_products_and_solutions_are_those_of_the_dense_matrix(which: str) -> None:
    network = tiny_gpt2(VOCABULARY, n_embd=8, n_layer=1, n_positions=16)  # Llama's norms compute in float32
    model = Model((lora(network) if which == "lora" else network).double(), None, which)
    samples = labelled(model, texts(4, 1))
    h = dense.gauss_newton(model, samples.encoded)
    direction = random_direction(model)
    v = flat(direction.tensors)
    product = flat(GaussNewton(model, samples)(direction.tensors))
    assert (product - h @ v).norm() < 1e-10 * (h @ v).norm()
    backwards = dict(reversed(list(direction.tensors.items())))  # as a file may have them
    again = GaussNewton(model, samples)(backwards)
    torch.testing.assert_close(flat({name: again[name] for name in direction.tensors}), product)
    damping = float(h.diagonal().mean())
    cg = ConjugateGradients(model, samples, Damping(damping, relative=False), 1e-11, 2000, Silent())
    solved = cg.solve(direction)
    right = torch.linalg.solve(h + damping * torch.eye(len(h), dtype=h.dtype), v)
    assert (flat(solved.tensors) - right).norm() < 1e-8 * right.norm()
    assert solved.provenance["residual"] <= 1e-11


def test_a_relative_damping_is_of_each_parameters_own_mean() -> None:
    model = Model(tiny_gpt2(VOCABULARY, n_embd=8, n_layer=1, n_positions=16).double(), None)
    samples, direction = labelled(model, texts(4, 1)), random_direction(model)
    h, v = dense.gauss_newton(model, samples.encoded), flat(direction.tensors)
    means = {n: dense.squares(s).mean() / 4 for n, s in dense.observe(model, samples.encoded, samples.labels).items()}
    damp = torch.cat([means[n] * torch.ones_like(t).flatten() for n, t in direction.tensors.items()])
    cg = ConjugateGradients(model, samples, Damping(1.0), 1e-11, 2000, Silent())
    right = torch.linalg.solve(h + torch.diag(damp), v)
    assert (flat(cg.solve(direction).tensors) - right).norm() < 1e-8 * right.norm()


def test_conjugate_gradients_say_how_near_they_came() -> None:
    torch.manual_seed(0)
    root = torch.randn(30, 30, dtype=torch.float64)
    a, b = root @ root.T + torch.eye(30, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    told: list[float] = []

    def product(v: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"x": a @ v["x"]}

    short = conjugate_gradients(product, {"x": b}, tolerance=1e-9, iterations=5, told=told.append)
    assert short.iterations == 5 and short.residual == told[-1] > 1e-9
    assert (b - a @ short.x["x"]).norm() / b.norm() == pytest.approx(short.residual)
    whole = conjugate_gradients(product, {"x": b}, tolerance=1e-9, iterations=500)
    assert whole.residual <= 1e-9
    torch.testing.assert_close(whole.x["x"], torch.linalg.solve(a, b))
    eased = conjugate_gradients(product, {"x": b}, tolerance=1e-9, iterations=500, diagonal={"x": a.diagonal()})
    torch.testing.assert_close(eased.x["x"], whole.x["x"])
    nothing = conjugate_gradients(product, {"x": 0 * b}, tolerance=1e-9, iterations=500)
    assert nothing.iterations == 0 and not nothing.x["x"].any()


def test_ekfac_is_nearer_to_gauss_newton_than_the_diagonal_and_that_than_nothing() -> None:
    network = small(hidden_size=12, intermediate_size=16).double()
    train(network, texts(400, 2))
    model = Model(network, None)
    samples = labelled(model, texts(80, 3), budget=400)
    h = dense.gauss_newton(model, samples.encoded)
    damping = 0.1 * float(h.diagonal().mean())
    inverse = torch.linalg.inv(h + damping * torch.eye(len(h), dtype=h.dtype))
    cosines: dict[str, list[float]] = {}
    curvatures = {kind: fitted(model, samples, kind) for kind in ("diagonal", "kfac", "ekfac")}
    for sample in texts(20, 4):  # the gradients of other samples
        seen = dense.observe(model, [sample], [torch.from_numpy(sample.ids[sample.response])])
        direction = Direction({name: s.gradients[0] for name, s in seen.items()})
        right = inverse @ flat(direction.tensors)
        found = {k: c.solve(direction, Damping(damping, relative=False)).tensors for k, c in curvatures.items()}
        for name, tensors in {"identity": direction.tensors, **found}.items():
            cosines.setdefault(name, []).append(float(torch.cosine_similarity(flat(tensors), right, dim=0)))
    mean = {name: float(np.mean(values)) for name, values in cosines.items()}
    assert mean["ekfac"] > mean["diagonal"] + 0.02 > mean["identity"] + 0.04, mean


def train(network: Any, samples: list[Encoded]) -> None:
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(300):
        ids = torch.from_numpy(samples[step % len(samples)].ids)[None]
        network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.requires_grad_(False)
