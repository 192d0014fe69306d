"""Tell a lack of memory from other errors, make room again, and go on with less at a time."""

import gc
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import torch

from prism.data import plan_batches

T = TypeVar("T")
SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "std::bad_alloc",
    "could not create a memory object",  # oneDNN, as the next one: a model that runs at all has its primitives
    "could not create a primitive",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory, in the words of any of torch's devices."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS))


def attempt(run: Callable[[], T]) -> T | None:
    """What `run` returns, or None where the memory does not suffice for it."""
    with torch.enable_grad():
        earlier = torch.ones(1, requires_grad=True).clone()
    try:
        return run()
    except Exception as error:
        if not out_of_memory(error):
            raise
    # On a CPU, torch leaves what a failed backward pass had still to do in a queue, and so the whole graph. There later
    # nodes come first, so that later passes end before it is their turn; one through an earlier node does not.
    torch.autograd.backward(earlier)
    make_room()
    return None


def make_room() -> None:
    """Give back what is no longer in use; call it when the error, which holds on to tensors, is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_fitting_batches(
    lengths: Sequence[int],
    budget: int,
    run: Callable[[list[int]], T],
    take: Callable[[list[int], T | None], None],
) -> int:
    """Run batches under a token budget that halves where memory runs out; returns the budget at the end.

    `run` gets the places of a batch's samples, and may be called again with some of them; what it makes of them goes to
    `take`, once for each sample: None for a sample that is too long even alone.
    """
    batches = plan_batches(lengths, budget)
    while batches:
        batch = batches[0]
        if _done(batch, run, take):
            del batches[0]
        else:
            budget = max(1, len(batch) * lengths[batch[-1]] // 2)
            rest = list(chain(*batches))
            batches = [[rest[i] for i in b] for b in plan_batches([lengths[i] for i in rest], budget)]
    return budget


def _done(batch: list[int], run: Callable[[list[int]], T], take: Callable[[list[int], T | None], None]) -> bool:
    made = attempt(partial(run, batch))
    if made is None and len(batch) > 1:
        return False
    take(batch, made)
    return True
