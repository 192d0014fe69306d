"""The maths of a preference: pure functions of length-normalised losses.

Throughout, `chosen` and `rejected` are l(y+) and l(y-), the mean token losses in nats of the wanted and the unwanted
response, any shape. PRISM (arXiv 2605.21422); equations as printed in AgentDoG 1.5 (arXiv 2605.29801), section 3.2.2.
"""

import torch
from torch.nn import functional as F


def preference(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """pi = p̄(y+) / (p̄(y+) + p̄(y-)) with p̄ = exp(-l), that is sigmoid(l(y-) - l(y+)); in (0, 1)."""
    return torch.sigmoid(rejected - chosen)


def potential(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """K = -(1/|Q|) sum_q log(1 - pi_q) = mean softplus(l(y-) - l(y+)): the target-preference potential, a scalar.

    Its gradient is -g_KL, so that a gradient step of size eta on sample z raises it by eta s(z), to first order.
    """
    return F.softplus(rejected - chosen).mean()
