"""Where two runs of a model on the same sample part ways."""

import torch
from torch import nn

from prism.data import Batch
from prism.model import Model, token_losses


def first_difference(model: Model, one: Batch, other: Batch, tolerance: float) -> str:
    """A clause that names the module where a model begins to treat the first sample of two batches differently: the
    first to finish whose output for it is not the same; empty where none is found."""
    length = int(one.mask[0].sum())
    again = _outputs(model, other, length)
    for module, output in _outputs(model, one, length).items():
        if module in again and not torch.allclose(
            output, again[module], rtol=tolerance, atol=tolerance * float(output.abs().max())
        ):
            name = next(name for name, m in model.network.named_modules() if m is module)
            return f", first in {name} ({type(module).__name__})"
    return ""


def _outputs(model: Model, batch: Batch, length: int) -> dict[nn.Module, torch.Tensor]:
    """What modules first put out for the first sample, [length, …], in the order in which they finish."""
    size = batch.ids.shape
    seen: dict[nn.Module, torch.Tensor] = {}

    def look(module: nn.Module, _: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if module not in seen and isinstance(first, torch.Tensor) and first.is_floating_point():
            if first.dim() >= 3 and first.shape[:2] == size:
                seen[module] = first[0, :length]
            elif first.dim() == 2 and first.shape[0] == size.numel():
                seen[module] = first[:length]

    handles = [module.register_forward_hook(look) for module in model.network.modules()]
    try:
        with torch.no_grad():
            token_losses(model.network, batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen
