"""A mixture of kernels, which is itself a kernel.

Before each step the chains are dealt to the kernels at random, in fixed proportions and
whatever their positions; each part leaves the target invariant, so the mixture does.
All proposals go through one evaluation of the log-density.

References:
    Tierney (1994), Annals of Statistics 22(4), section 2.4.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal
from sbi_aalr.types import LogProbFn

_LARGE_SHARE = 20


def mix(kernels: Sequence[Kernel], probabilities: Sequence[float]) -> Kernel:
    """Combine kernels; its parameters are the tuple of theirs.

    Args:
        kernels: The parts.
        probabilities: How often each is used; positive, summing to one.

    Returns:
        The mixture. Where a part is itself a mixture, `component` numbers the pairs:
        part plus number of parts times the part's own component.

    Raises:
        ValueError: If the lengths differ or the probabilities are not positive with
            sum one.
    """
    if len(kernels) != len(probabilities) or not kernels:
        raise ValueError(
            "`probabilities` must hold one number a kernel, got "
            f"{len(probabilities)} for {len(kernels)} kernels."
        )
    # Written so that NaN fails.
    if not (min(probabilities) > 0 and abs(sum(probabilities) - 1) <= 1e-6):
        raise ValueError(
            f"`probabilities` must be positive and sum to 1, got {list(probabilities)}."
        )

    def build(generator: Generator, starts: Tensor) -> tuple[Any, ...]:
        return tuple(kernel.build(generator, starts) for kernel in kernels)

    def propose(
        generator: Generator,
        position: Tensor,
        others: Tensor,
        log_prob_fn: LogProbFn,
        parameters: tuple[Any, ...],
    ) -> Proposal:
        num_chains = position.shape[0]
        order = torch.rand(num_chains, generator=generator, device=position.device)
        order = order.argsort()
        ends = _divide(generator, position, probabilities)
        shuffled = position.index_select(0, order)
        moved, corrections, components = [], [], []
        for index, (kernel, part) in enumerate(zip(kernels, parameters, strict=True)):
            mine = shuffled[ends[index - 1] if index else 0 : ends[index]]
            if mine.shape[0] == 0:
                continue
            option = kernel.propose(generator, mine, others, log_prob_fn, part)
            moved.append(option.position)
            correction = torch.as_tensor(option.log_correction, device=mine.device)
            corrections.append(correction.expand(mine.shape[:2]))
            mark = torch.full_like(mine[..., 0], index, dtype=torch.long)
            if option.component is not None:
                mark = mark + len(kernels) * option.component
            components.append(mark)
        back = order.argsort()
        return Proposal(
            torch.cat(moved)[back],
            torch.cat(corrections)[back],
            torch.cat(components)[back],
        )

    def tune(parameters: tuple[Any, ...], info: Info) -> tuple[Any, ...]:
        component = cast(Tensor, info.component)
        tuned = []
        for index, (kernel, part) in enumerate(zip(kernels, parameters, strict=True)):
            unused = component % len(kernels) != index
            rate = info.acceptance_rate.masked_fill(unused, torch.nan)
            own = info._replace(
                acceptance_rate=rate, component=component // len(kernels)
            )
            tuned.append(kernel.tune(part, own))
        return tuple(tuned)

    def refit(
        generator: Generator, parameters: tuple[Any, ...], draws: Tensor
    ) -> tuple[Any, ...]:
        return tuple(
            kernel.refit(generator, part, draws)
            for kernel, part in zip(kernels, parameters, strict=True)
        )

    return Kernel(
        build,
        propose,
        tune,
        refit,
        uses_population=any(kernel.uses_population for kernel in kernels),
        unconstrained=any(kernel.unconstrained for kernel in kernels),
    )


def _divide(
    generator: Generator, position: Tensor, probabilities: Sequence[float]
) -> list[int]:
    """Where each kernel's share of the chains ends.

    Plain rounding would never use a kernel whose share is less than half a chain, so
    small shares are rounded by chance. Large ones are not, as that would make the host
    wait for the device.
    """
    num_chains = position.shape[0]
    offset = 0.5
    if min(probabilities) * num_chains < _LARGE_SHARE:
        uniform = torch.rand((), generator=generator, device=position.device)
        offset = float(uniform)
    inner = list(accumulate(probabilities))[:-1]
    return [*(math.floor(edge * num_chains + offset) for edge in inner), num_chains]
