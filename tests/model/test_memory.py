"""A lack of memory, real and in torch's words, and batches that shrink until they fit."""

import gc
import random

import pytest
import torch

from prism.model.memory import attempt, in_fitting_batches, out_of_memory


def grab(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


def test_a_real_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        grab(1 << 60)
    assert out_of_memory(caught.value)
    assert attempt(lambda: grab(1 << 60)) is None
    assert attempt(lambda: len(grab(1 << 10))) == 1 << 10


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_it_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 // 0)


def live_bytes() -> int:
    gc.collect()
    return sum(o.nbytes for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter))


@pytest.mark.parametrize("place", range(1, 8))
def test_a_backward_pass_that_fails_lets_go_of_its_graph(place: int) -> None:
    """torch keeps it where two branches of the graph are still to be done."""
    before = live_bytes()

    def run() -> None:
        count = 0

        def hook(gradient: torch.Tensor) -> None:
            nonlocal count
            count += 1
            if count == place:
                raise torch.OutOfMemoryError

        x = torch.randn(1000, 1000, requires_grad=True)
        for _ in range(4):
            left, right = x.sin(), x.cos()
            for branch in (left, right):
                branch.register_hook(hook)  # type: ignore[no-untyped-call]
            x = left * right
        x.sum().backward()  # type: ignore[no-untyped-call]

    assert attempt(run) is None
    assert live_bytes() == before


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_is_taken_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.model.memory.make_room", lambda: None)  # it takes a while, and nothing real is held
    source = random.Random(seed)
    lengths = [source.randint(1, 60) for _ in range(source.randint(1, 40))]
    room, budget = source.randint(10, 200), source.randint(1, 400)
    taken: dict[int, bool] = {}
    tried: list[int] = []

    def run(batch: list[int]) -> list[int]:
        padded = len(batch) * max(lengths[i] for i in batch)
        tried.append(padded)
        if padded > room:
            raise torch.OutOfMemoryError
        return batch

    def take(batch: list[int], made: list[int] | None) -> None:
        assert made in (None, batch)
        assert not taken.keys() & set(batch)
        taken.update(dict.fromkeys(batch, made is not None))

    final = in_fitting_batches(lengths, budget, run, take)
    assert taken == {i: length <= room for i, length in enumerate(lengths)}
    assert final == budget or budget > final >= min(room // 2, budget)
    assert all(size <= max(budget, *lengths) for size in tried)
    again: list[int] = []
    tried, again = again, tried
    assert in_fitting_batches(lengths, final, run, lambda *_: None) == final  # the budget at the end is one that holds
    assert sum(size > room for size in tried) == sum(length > room for length in lengths)
