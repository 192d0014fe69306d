"""The curvature of one parameter, ready to be inverted: a diagonal, or a Kronecker product's eigenbasis.

Pure functions of tensors. A matrix parameter W [rows, columns] has gradients G = sum_t l_t r_t' of whole samples, with
l_t its row side at token t and r_t its column side: output gradients and inputs for `nn.Linear`, the other way round
for `Conv1D`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from prism.errors import DataError, ModelError


class Block(Protocol):
    """H of one parameter."""

    def mean(self) -> float:
        """Mean of all eigenvalues, that is the trace over the number of weights."""
        ...

    def solve(self, v: torch.Tensor, damping: float) -> torch.Tensor:
        """(H + damping I)^-1 v."""
        ...

    def tensors(self) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class Diagonal:
    """H = diag(squares): `squares` of the parameter's shape."""

    squares: torch.Tensor

    def mean(self) -> float:
        return float(self.squares.double().mean())

    def solve(self, v: torch.Tensor, damping: float) -> torch.Tensor:
        return v / (self.squares.to(v) + damping)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"squares": self.squares}


@dataclass(frozen=True)
class Kronecker:
    """H = (Q_l ⊗ Q_r) diag(values) (Q_l ⊗ Q_r)', with `left` Q_l [rows, rows], `right` Q_r [columns, columns] and
    `values` [rows, columns].

    K-FAC (1503.05671) has as values the products of both factors' eigenvalues, EK-FAC (1806.03884, eq. 12) the second
    moments of whole-sample gradients in the eigenbasis.
    """

    left: torch.Tensor
    right: torch.Tensor
    values: torch.Tensor

    def mean(self) -> float:
        return float(self.values.double().mean())

    def solve(self, v: torch.Tensor, damping: float) -> torch.Tensor:
        left, right = self.left.to(v), self.right.to(v)
        inner = (left.T @ v @ right) / (self.values.to(v) + damping)
        solved: torch.Tensor = left @ inner @ right.T
        return solved

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"left": self.left, "right": self.right, "values": self.values}


def block_of(tensors: Mapping[str, torch.Tensor]) -> Block:
    """The block that has these `tensors()`."""
    return Diagonal(**tensors) if "squares" in tensors else Kronecker(**tensors)


def eigenbasis(factor: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(eigenvalues [n] from zero up, eigenvectors [n, n] in columns) of a covariance, in its own dtype.

    Computed in float64, on a CPU where the device has none or no room for it.

    Raises:
        DataError: the factor is not finite.
        ModelError: no decomposition was found.
    """
    if not bool(factor.isfinite().all()):
        raise DataError(f"the curvature of {name} is not finite: try --dtype float32")
    scale = factor.diagonal().mean()
    if not scale > 0:
        return factor.new_zeros(len(factor)), torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    for device in dict.fromkeys((factor.device.type, "cpu")):
        try:
            wide = (factor / scale).to(device, torch.float64)
            values, vectors = torch.linalg.eigh((wide + wide.T) / 2)
        except (RuntimeError, TypeError) as error:  # LinAlgError, no memory, no float64 there
            reason = str(error).splitlines()[0]
            continue
        return (values.clamp(min=0) * scale.double().cpu().to(device)).to(factor), vectors.to(factor)
    raise ModelError(
        f"the factor [{len(factor)}, {len(factor)}] of {name} can't be decomposed: {reason}; "
        "take --curvature diagonal, or other --parameters"
    )


def covariance(rows: torch.Tensor) -> torch.Tensor:
    """sum_t x_t x_t' of rows [n, width]: [width, width]."""
    return rows.T @ rows


def summed_squares(left: torch.Tensor, right: torch.Tensor, most: int) -> torch.Tensor:
    """sum_b (sum_t l_bt r_bt')^2, element by element, of left [B, R, rows] and right [B, R, columns]: [rows, columns].

    At most `most` elements of per-sample gradients are held at once.
    """
    size = max(1, most // (left.shape[2] * right.shape[2]))
    total = left.new_zeros(left.shape[2], right.shape[2])
    for ls, rs in zip(torch.split(left, size), torch.split(right, size), strict=True):
        total += (ls.mT @ rs).square_().sum(0)
    return total
