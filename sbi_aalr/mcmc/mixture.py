"""A mixture of kernels, which is itself a kernel.

Before each step every chain draws which kernel proposes for it, by fixed probabilities
that do not depend on where it stands; each part leaves the target invariant, so the
mixture does. All proposals go through one evaluation of the log-density.

References:
    Tierney (1994), Annals of Statistics 22(4), section 2.4.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal
from sbi_aalr.types import LogProbFn


def mix(kernels: Sequence[Kernel], probabilities: Sequence[float]) -> Kernel:
    """Combine kernels; its parameters are the tuple of theirs.

    Args:
        kernels: The parts.
        probabilities: How often each is used; positive, summing to one.

    Returns:
        The mixture.

    Raises:
        ValueError: If the lengths differ or the probabilities are not positive with
            sum one.
    """
    if len(kernels) != len(probabilities) or not kernels:
        raise ValueError(
            "`probabilities` must hold one number a kernel, got "
            f"{len(probabilities)} for {len(kernels)} kernels."
        )
    if min(probabilities) <= 0 or abs(sum(probabilities) - 1) > 1e-6:
        raise ValueError(
            f"`probabilities` must be positive and sum to 1, got {list(probabilities)}."
        )
    edges = list(accumulate(probabilities))[:-1]

    def build(generator: Generator, starts: Tensor) -> tuple[Any, ...]:
        return tuple(kernel.build(generator, starts) for kernel in kernels)

    def propose(
        generator: Generator,
        position: Tensor,
        others: Tensor,
        log_prob_fn: LogProbFn,
        parameters: tuple[Any, ...],
    ) -> Proposal:
        shape = position.shape[:2]
        uniform = torch.rand(shape, generator=generator, device=position.device)
        component = torch.zeros_like(uniform, dtype=torch.long)
        for edge in edges:
            component = component + (uniform > edge)
        proposed, correction = position, position.new_zeros(shape)
        for index, (kernel, part) in enumerate(zip(kernels, parameters, strict=True)):
            option = kernel.propose(generator, position, others, log_prob_fn, part)
            chosen = component == index
            proposed = torch.where(chosen.unsqueeze(-1), option.position, proposed)
            correction = torch.where(chosen, option.log_correction, correction)
        return Proposal(proposed, correction, component)

    def tune(parameters: tuple[Any, ...], info: Info) -> tuple[Any, ...]:
        component = cast(Tensor, info.component)
        tuned = []
        for index, (kernel, part) in enumerate(zip(kernels, parameters, strict=True)):
            unused = component != index
            rate = info.acceptance_rate.masked_fill(unused, torch.nan)
            tuned.append(kernel.tune(part, info._replace(acceptance_rate=rate)))
        return tuple(tuned)

    def refit(
        generator: Generator, parameters: tuple[Any, ...], draws: Tensor
    ) -> tuple[Any, ...]:
        return tuple(
            kernel.refit(generator, part, draws)
            for kernel, part in zip(kernels, parameters, strict=True)
        )

    return Kernel(
        build, propose, tune, refit, any(kernel.uses_population for kernel in kernels)
    )
