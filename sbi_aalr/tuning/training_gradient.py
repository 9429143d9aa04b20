"""The gradient of a training loss in its weights, kept to be differentiated again.

The loss is evaluated once. Both products that a hypergradient needs, with the Hessian
and with the mixed derivatives, go back through the same graph: whatever noise the loss
drew (dropout, augmentation, a batch) is the same in both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[..., Tensor]


class TrainingGradient:
    r"""Products with second derivatives of a loss, by vector-Jacobian products.

    Args:
        loss: The training loss, of no dimension, with its graph.
        weights: Leaves that it depends on.

    Raises:
        ValueError: If it does not depend on a weight, or its gradient is not finite.

    Attributes:
        gradient: The gradient, shape `(W,)`.
        norm: Its norm.
    """

    def __init__(self, loss: Tensor, weights: Sequence[Tensor]) -> None:
        gradients = torch.autograd.grad(
            loss, weights, create_graph=True, allow_unused=True
        )
        unseen = [i for i, gradient in enumerate(gradients) if gradient is None]
        if unseen:
            raise ValueError(
                f"`training_loss` must depend on every weight, but does not on "
                f"{len(unseen)} of {len(weights)}: {name_some('weights', unseen)}. "
                "Leave those out, or use the weights that the loss is given."
            )
        self._weights = weights
        # A loss that is linear in a weight has a constant gradient there.
        self._curved = [g for g in gradients if g.requires_grad]
        self._is_curved = [g.requires_grad for g in gradients]
        vector = join(gradients, weights)
        check_finite_vector("the gradient of `training_loss`", vector)
        self.gradient = vector
        self.norm = float(vector.norm(dtype=torch.float64))

    def multiply_hessian(self, vector: Tensor) -> Tensor:
        r"""Product of $\partial^2 L / \partial w \partial w^T$ with a vector `(W,)`."""
        product = join(self._pull_back(vector, self._weights), self._weights)
        return check_finite_vector("the Hessian of `training_loss`", product)

    def multiply_mixed(
        self, vector: Tensor, hyperparameters: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        r"""Product of a vector with $\partial^2 L / \partial w \partial \lambda^T$.

        None where the gradient does not depend on a hyperparameter.
        """
        return self._pull_back(vector, hyperparameters)

    def _pull_back(
        self, vector: Tensor, inputs: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        if not self._curved:
            return (None,) * len(inputs)
        pieces = split(vector, self._weights)
        kept = [p for p, c in zip(pieces, self._is_curved, strict=True) if c]
        return torch.autograd.grad(
            self._curved, inputs, kept, retain_graph=True, allow_unused=True
        )


def join(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """Put gradients end to end, zeros for those that are None; shape `(W,)`."""
    pairs = zip(parts, like, strict=True)
    return torch.cat(
        [torch.zeros_like(w).flatten() if p is None else p.flatten() for p, w in pairs]
    ).detach()


def split(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector `(W,)` into tensors of the given shapes and types."""
    pieces = vector.split([tensor.numel() for tensor in like])
    return [p.view(w.shape).to(w) for p, w in zip(pieces, like, strict=True)]


def check_finite_vector(name: str, vector: Tensor) -> Tensor:
    """Return a vector, or raise if it holds NaN or infinity."""
    bad = int((~torch.isfinite(vector)).sum())
    if bad:
        raise ValueError(
            f"{name[0].upper()}{name[1:]} must be finite, got NaN or infinity in "
            f"{bad:,} of {vector.numel():,} entries. Look at the loss near these "
            "weights: a square root or a logarithm at zero, or an overflow."
        )
    return vector


def evaluate(name: str, loss: Loss, *arguments: object) -> Tensor:
    """Evaluate a loss, and check that it can be differentiated.

    Raises:
        TypeError: If it is not callable, or gives no tensor.
        ValueError: If what it gives is not one finite number with a graph.
    """
    if not callable(loss):
        raise TypeError(
            f"`{name}` must be a function of (weights, hyperparameters), got "
            f"{type(loss).__name__}."
        )
    value = loss(*arguments)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"`{name}` must return a tensor of no dimension, got "
            f"{type(value).__name__}. Without .item() its graph stays on it."
        )
    if value.numel() != 1:
        raise ValueError(
            f"`{name}` must return one number, got shape {tuple(value.shape)}. Take "
            "the mean over its rows."
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"`{name}` must be finite, got {value.item()}.")
    if not value.requires_grad:
        raise ValueError(
            f"`{name}` must depend on the weights and hyperparameters that it is "
            "given, got a constant. Something detached it, or it uses others."
        )
    return value.reshape(())


def name_some(name: str, indices: Sequence[int]) -> str:
    """Name the first few of some entries."""
    shown = ", ".join(f"`{name}[{i}]`" for i in indices[:3])
    return shown + (", …" if len(indices) > 3 else "")
