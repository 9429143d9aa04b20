"""Likelihood-free Hamiltonian Monte Carlo, Algorithm 3.

The potential energy is U(theta) = -log p(theta|x), whose gradient comes from automatic
differentiation of the log-density; p(x) cancels in it. A chain draws a momentum, moves
by leapfrog steps, and the Metropolis rule mends what these get wrong about the energy.

With the mass matrix M = (L L^T)^-1 of the warm-up draws' covariance, everything is
written for the velocity v = L^T p of whitened parameters: v ~ N(0, I), the kinetic
energy is |v|^2 / 2, and neither M nor an inverse is needed.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 3; Neal (2011),
    arXiv:1206.1901, for leapfrog, mass matrix and the jitter of the step size;
    Hoffman & Gelman (2014), arXiv:1111.4246, for the acceptance rate of 0.8.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Kernel, Proposal
from sbi_aalr.mcmc.shapes import covariance_cholesky
from sbi_aalr.types import LogProbFn

_TARGET_ACCEPTANCE = 0.8
# More steps were measured to cost more than they bring, as parameters are whitened.
_NUM_STEPS = 5
# Each chain scales its step size by a factor between this and one, so that trajectories
# do not all come back to where they began.
_LEAST_JITTER = 0.2


class Parameters(NamedTuple):
    """Parameters of Hamiltonian Monte Carlo.

    Attributes:
        cholesky: Lower factor of the inverse mass matrix, shape `(B, D, D)`, units of
            the unconstrained parameters.
        step_size: Largest leapfrog step, units of the whitened parameters.
    """

    cholesky: Tensor
    step_size: DualAveraging


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Take the mass matrix from the starts, shape `(C, B, D)`."""
    _, num_observations, dim = starts.shape
    # In D dimensions a step of D^(-1/4) keeps the energy error of a Gaussian fixed.
    step_size = starts.new_full((num_observations,), dim**-0.25)
    return Parameters(covariance_cholesky(starts), adaptation.start(step_size))


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: Parameters,
) -> Proposal:
    """Propose the end of a trajectory, with the correction K(p) - K(p').

    A trajectory on which a position or a gradient is NaN or infinite is a rejection:
    the chain proposes where it stands, with a correction of minus infinity.
    """
    velocity = torch.empty_like(position).normal_(generator=generator)
    jitter = torch.rand(
        position.shape[:2],
        generator=generator,
        device=position.device,
        dtype=position.dtype,
    )
    jitter = _LEAST_JITTER + (1 - _LEAST_JITTER) * jitter
    end, end_velocity = leapfrog(
        position,
        velocity,
        log_prob_fn,
        cholesky=parameters.cholesky,
        step_size=parameters.step_size.log_scale.exp() * jitter,
        num_steps=_NUM_STEPS,
    )
    correction = (velocity.square() - end_velocity.square()).sum(dim=-1) / 2
    valid = torch.isfinite(correction) & torch.isfinite(end).all(dim=-1)
    return Proposal(
        torch.where(valid.unsqueeze(-1), end, position),
        torch.where(valid, correction, -torch.inf),
    )


def leapfrog(
    position: Tensor,
    velocity: Tensor,
    log_prob_fn: LogProbFn,
    *,
    cholesky: Tensor,
    step_size: Tensor,
    num_steps: int,
) -> tuple[Tensor, Tensor]:
    """Follow Hamilton's equations in steps that are reversible and keep volume.

    Args:
        position: Where trajectories begin, shape `(C, B, D)`.
        velocity: Whitened velocity there, shape `(C, B, D)`.
        log_prob_fn: Differentiable log-density, nats.
        cholesky: Lower factor of the inverse mass matrix, shape `(B, D, D)`.
        step_size: Length of a step in whitened time, shape `(C, B)`.
        num_steps: Number of steps.

    Returns:
        Position and velocity at the end. The velocity is NaN where a gradient on the
        way was NaN or infinite.

    Raises:
        ValueError: If the log-density cannot be differentiated.

    Example:
        >>> start, velocity = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        >>> end, _ = leapfrog(
        ...     start,
        ...     velocity,
        ...     lambda theta: -theta.square().sum(dim=-1) / 2,
        ...     cholesky=torch.eye(1)[None],
        ...     step_size=torch.full((1, 1), torch.pi / 200),
        ...     num_steps=100,
        ... )  # A quarter of an oscillator's period.
        >>> round(end.item(), 3)
        1.0
    """
    step = step_size.unsqueeze(-1)

    def pull(position: Tensor) -> Tensor:
        """Gradient of the log-density in whitened parameters."""
        gradient = _differentiate(log_prob_fn, position)
        return torch.einsum("bij,cbi->cbj", cholesky, gradient)

    velocity = velocity + step / 2 * pull(position)
    for index in range(num_steps):
        position = position + step * torch.einsum("bij,cbj->cbi", cholesky, velocity)
        weight = 1 if index < num_steps - 1 else 0.5
        velocity = velocity + weight * step * pull(position)
    return position, velocity


def _differentiate(log_prob_fn: LogProbFn, position: Tensor) -> Tensor:
    """Gradient of each chain's own log-density, NaN where it is not finite.

    Once NaN, a trajectory stays so; the log-density is not asked about NaN.
    """
    valid = torch.isfinite(position).all(dim=-1, keepdim=True)
    with torch.enable_grad():
        safe = torch.where(valid, position, 0.0).detach().requires_grad_()
        log_prob = log_prob_fn(safe)
        if not log_prob.requires_grad:
            raise ValueError(
                "Hamiltonian Monte Carlo needs a log-density that torch can "
                "differentiate, but `log_prob_fn` returned one without gradient. Use "
                "another kernel, such as 'jump_walk'."
            )
        (gradient,) = torch.autograd.grad(log_prob.sum(), safe)
    valid = valid & torch.isfinite(gradient).all(dim=-1, keepdim=True)
    return torch.where(valid, gradient, torch.nan)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Take the mass matrix from a window's draws, shape `(S, C, B, D)`."""
    cholesky = covariance_cholesky(draws.flatten(0, 1))
    return Parameters(cholesky, adaptation.restart(parameters.step_size))


KERNEL = Kernel(
    build,
    propose,
    partial(adaptation.tune, target=_TARGET_ACCEPTANCE),
    refit,
    unconstrained=True,
)
