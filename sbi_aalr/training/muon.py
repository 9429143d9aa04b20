r"""Muon: steps along orthogonalised momentum, for the matrices inside a network.

An update $U V^\top$ in place of the momentum $U S V^\top$ moves all directions of a
matrix alike, where Adam favours the few with large gradients. The singular values are
brought to about one by five steps of a Newton-Schulz iteration, for which bfloat16 is
precise enough. A CPU that does not multiply it in hardware takes float32, which is 25
times as fast there.

`torch.optim.Muon`, which came with torch 2.9, orthogonalises one matrix after another.
Its step takes 1.3 to 1.4 times as long on the default network for 1,000,000 simulations
(`benchmarks/own_parts.py`). The updates differ in rounding only, with a cosine of
0.9999, but that is enough to give a seed other weights.

References:
    Jordan et al. (2024), *Muon: an optimizer for hidden layers in neural networks*,
    https://kellerjordan.github.io/posts/muon/.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from sbi_aalr.networks.residual import has_quick_bfloat16

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Matrices of one shape are orthogonalised together.

    Args:
        matrices: Parameters with two dimensions.
        lr: Learning rate: the change of a square matrix has this spectral norm.
        momentum: Share of the momentum that is kept in each step.
        weight_decay: Share of a weight, times the learning rate, taken off in a step.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; matrices without a gradient stay as they are."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in by_shape.items():
                kept = group["momentum"]
                momenta = [self._get_momentum(matrix) for matrix in matrices]
                gradients = [cast(Tensor, matrix.grad) for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - kept)
                directions = torch.stack(torch._foreach_lerp(gradients, momenta, kept))
                size = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                updates = list(orthogonalise(directions).unbind())
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, updates, alpha=-size)

    def _get_momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        return state["momentum"]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring all singular values of matrices near one.

    Args:
        matrices: Shape `(..., M, N)`.

    Returns:
        Matrices with the same singular vectors and singular values of about 0.7 to
        1.2; zero where all of a matrix is.

    Example:
        >>> import torch
        >>> result = orthogonalise(torch.diag(torch.tensor([3.0, 0.5])))
        >>> bool(((result.diag() > 0.6) & (result.diag() < 1.3)).all())
        True
    """
    first, second, third = _COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if is_tall else matrices
    norm = torch.linalg.matrix_norm(wide, keepdim=True)
    result = (wide / norm.clamp_min(1e-12)).reshape(-1, *wide.shape[-2:])
    kind = matrices.device.type
    result = result.bfloat16() if kind != "cpu" or has_quick_bfloat16(kind) else result
    for _ in range(_ITERATIONS):
        square = result @ result.mT
        square = torch.baddbmm(square, square, square, beta=second, alpha=third)
        result = torch.baddbmm(result, square, result, beta=first)
    result = result.reshape(wide.shape).to(matrices.dtype)
    return result.mT if is_tall else result
