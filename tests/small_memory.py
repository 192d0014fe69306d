"""A real network on a device that has room for so many tokens at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def room_for(network: Any, tokens: int) -> Iterator[list[int]]:
    """Batches of more padded tokens raise torch's own error inside; yields the sizes of those that were tried."""
    core = network.get_base_model() if hasattr(network, "get_base_model") else network
    sizes: list[int] = []

    def allocate(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        sizes.append(ids.numel())
        if ids.numel() > tokens:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {ids.numel()} tokens")

    handle = core.base_model.register_forward_pre_hook(allocate, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()
