"""Any proposal of the user's as a kernel, symmetric or not.

Metropolis-Hastings asks two things of a proposal: draw theta' ~ q(theta'|theta), and
say how much likelier the way there is than the way back. The second is the correction
log q(theta|theta') - log q(theta'|theta), which is zero for a symmetric proposal.

References:
    Hastings (1970), Biometrika 57(1); Hermans et al. (2020), arXiv:1903.04057,
    Algorithm 2.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch import Generator, Tensor

from sbi_aalr.checks import check_bool
from sbi_aalr.mcmc.kernel import Kernel, Proposal
from sbi_aalr.types import LogProbFn

ProposalFn: TypeAlias = Callable[[Generator, Tensor], Tensor | tuple[Tensor, Tensor]]


def from_proposal(propose: ProposalFn, *, unconstrained: bool = False) -> Kernel:
    """Make a kernel, without adaptation, of a proposal.

    Args:
        propose: `(generator, position)` -> proposed positions, if it is symmetric, else
            `(proposed positions, log_correction)`. Positions have shape `(C, B, D)`,
            prior units; the correction is log q(theta|theta') - log q(theta'|theta),
            shape `(C, B)`, nats. All randomness must come from the generator, and a
            chain's proposal may depend on its own position only. A posterior with this
            kernel can be pickled if the function can.
        unconstrained: Whether positions are those of the prior's unconstrained
            transform and not in prior units.

    Returns:
        The kernel.

    Raises:
        TypeError: If `propose` is not callable; when the kernel is used, if it returns
            anything but tensors of the positions' dtype.
        ValueError: When the kernel is used, if what it returns has another shape.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 2.

    Example:
        A step on the log-scale suits positive parameters. The density of theta' has a
        factor 1 / theta', so that the correction is log theta' - log theta:

        >>> import torch
        >>> from sbi_aalr.mcmc.step import init, step
        >>> def propose(generator, position):
        ...     noise = torch.empty_like(position).normal_(generator=generator)
        ...     return position * noise.exp(), noise.sum(dim=-1)
        >>> kernel = from_proposal(propose)
        >>> generator = torch.Generator().manual_seed(0)
        >>> log_prob_fn = lambda theta: -theta.sum(dim=-1)  # Exponential.
        >>> state = init(torch.ones(1_000, 1, 1), log_prob_fn)
        >>> for _ in range(30):
        ...     state, _ = step(
        ...         generator, state, log_prob_fn, kernel=kernel, parameters=()
        ...     )
        >>> bool(abs(state.position.mean() - 1) < 0.1)
        True
    """
    if not callable(propose):
        raise TypeError(
            "`propose` must be a function of (generator, position), got "
            f"{type(propose).__name__}."
        )
    check_bool("unconstrained", unconstrained)
    return Kernel(
        _build,
        partial(_propose, propose),
        unconstrained=unconstrained,
        needs_prior_units=not unconstrained,
    )


def _build(generator: Generator, starts: Tensor) -> tuple[()]:
    return ()


def _propose(
    propose: ProposalFn,
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: tuple[()],
) -> Proposal:
    returned = propose(generator, position)
    if isinstance(returned, Tensor):
        return Proposal(_check("position", returned, position))
    if not isinstance(returned, tuple) or len(returned) != 2:
        what = type(returned).__name__
        if isinstance(returned, tuple):
            what = f"a tuple of {len(returned)}"
        raise TypeError(
            "`propose` must return the proposed positions, or a tuple (positions, "
            f"log_correction) of tensors, got {what}."
        )
    proposed, log_correction = returned
    return Proposal(
        _check("position", proposed, position),
        _check("log_correction", log_correction, position[..., 0]),
    )


def _check(name: str, returned: object, like: Tensor) -> Tensor:
    """Return what a proposal returned if it is a tensor like another, or raise."""
    if not isinstance(returned, Tensor) or returned.dtype != like.dtype:
        what = getattr(returned, "dtype", type(returned).__name__)
        raise TypeError(
            f"`propose` must return a {name} of type {like.dtype}, got {what}."
        )
    if returned.shape != like.shape:
        raise ValueError(
            f"`propose` must return a {name} of shape {tuple(like.shape)}, got "
            f"{tuple(returned.shape)}."
        )
    return returned
