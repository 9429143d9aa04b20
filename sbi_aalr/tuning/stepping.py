"""Steps of weights and of hyperparameters by torch's optimizers, and what they need."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adamax,
    Optimizer,
    RMSprop,
)

from sbi_aalr.checks import check_positive_float
from sbi_aalr.tuning.training_gradient import check_finite_vector, evaluate, join

# Those that add the decay to the gradient; others of torch's say so in their groups.
_COUPLED = (ASGD, SGD, Adadelta, Adagrad, Adamax, RMSprop)
# Decay apart from the gradient that moves a minimum by less than can be measured.
_MOST_DECAY = 0.1


class Step(NamedTuple):
    """What happened in a step of the hyperparameters.

    Attributes:
        training_loss: Mean training loss of the steps of the weights before it.
        validation_loss: Held-out loss before it.
        hypergradient_norm: Norm of the hypergradient, before it is clipped.
        residual: What the inverse leaves; see `Info`.
        terms_used: Terms of the series, fewer where the Hessian was indefinite.
        largest_eigenvalue: Of the Hessian, as last measured.
        least_curvature: Of the Hessian, as far as it was seen.
        seconds: Time that it took, the steps of the weights included.
    """

    training_loss: float
    validation_loss: float
    hypergradient_norm: float
    residual: float
    terms_used: int
    largest_eigenvalue: float
    least_curvature: float
    seconds: float


class Stepped(NamedTuple):
    """Parameters, and what steps them.

    Attributes:
        parameters: The parameters.
        optimizers: Optimizers that together step each of them.
        clip_max_norm: Largest norm of their gradient; None for no limit.
    """

    parameters: list[nn.Parameter]
    optimizers: list[Optimizer]
    clip_max_norm: float | None

    def step(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Take a step; return the norm of the gradients, before it is clipped."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = clip_grad_norm_(self.parameters, self.clip_max_norm or math.inf)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def descend(self, compute_loss: Callable[..., Tensor], num_steps: int) -> float:
        """Take steps down a loss; return its mean before them.

        Raises:
            ValueError: If the loss or its gradient is not finite; the weights are as
                they were before that step.
        """
        total = torch.zeros(())
        for _ in range(num_steps):
            loss = evaluate("training_loss", compute_loss)
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            joined = join(gradients, self.parameters)
            check_finite_vector("the gradient of `training_loss`", joined)
            self.step(gradients)
            total = total + loss.detach().cpu()
        return float(total) / num_steps


@contextlib.contextmanager
def still(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Spare the gradients of hyperparameters while only weights are stepped."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def check_module(name: str, module: object) -> nn.Module:
    """Return a module, or raise if it is none."""
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`{name}` must be a torch module, got {type(module).__name__}. Tensors "
            "become one in torch.nn.ParameterList."
        )
    return module


def check_apart(weights: Sequence[Tensor], knobs: Sequence[Tensor]) -> None:
    """Raise if there are no weights or no hyperparameters, or some are both."""
    for name, tensors in (("model", weights), ("hyperparameters", knobs)):
        if not tensors:
            raise ValueError(f"`{name}` must have a parameter that needs a gradient.")
    if {id(weight) for weight in weights} & {id(knob) for knob in knobs}:
        raise ValueError("`hyperparameters` must not be weights of `model`.")


def check_optimizers(
    name: str, value: object, parameters: Sequence[Tensor]
) -> list[Optimizer]:
    """Return a list of optimizers, or raise if they do not step the parameters."""
    optimizers = [value] if isinstance(value, Optimizer) else value
    if not isinstance(optimizers, Sequence) or not all(
        isinstance(one, Optimizer) for one in optimizers
    ):
        raise TypeError(
            f"`{name}` must be a torch optimizer or several, got "
            f"{type(value).__name__}."
        )
    if any(isinstance(one, LBFGS) for one in optimizers):
        raise TypeError(
            f"`{name}` must step by one gradient, but LBFGS evaluates the loss itself. "
            "Use torch.optim.Adam or another."
        )
    # torch's leave those alone that need no gradient.
    stepped = [
        id(parameter)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad
    ]
    wanted = {id(parameter) for parameter in parameters}
    if sorted(stepped) != sorted(wanted):
        found = set(stepped)
        raise ValueError(
            f"`{name}` must step each of {len(wanted)} parameters once and no other, "
            f"but {len(wanted - found)} are missing, {len(found - wanted)} are others, "
            f"and {len(stepped) - len(found)} are there again."
        )
    return list(optimizers)


def check_decay(name: str, optimizers: Sequence[Optimizer]) -> None:
    """Raise if optimizers draw weights away from the minimum of the training loss."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            is_apart = not isinstance(optimizer, _COUPLED)
            is_apart = group.get("decoupled_weight_decay", is_apart)
            decay = group.get("weight_decay", 0.0)
            if decay > (_MOST_DECAY if is_apart else 0.0):
                raise ValueError(
                    f"`{name}` must not decay the weights, got weight_decay={decay} of "
                    f"{type(optimizer).__name__}: the hypergradient sees the training "
                    "loss alone. Add the penalty to that loss, by `WeightPenalty` for "
                    "one that is tuned."
                )


def check_optional(name: str, value: float | None) -> float | None:
    """Return a positive number or None, or raise."""
    return None if value is None else check_positive_float(name, value)
