"""A mixture of kernels, which is itself a kernel.

Each part leaves the target invariant, so what is dealt to the parts without a look at
the positions leaves it invariant too. In a single step, chains are dealt to the kernels
at random, in fixed proportions, and all proposals go through one evaluation of the
log-density. Where a part can make several steps at once, it is the steps that are
dealt, so that each part makes its share of them in one call.

References:
    Tierney (1994), Annals of Statistics 22(4), section 2.4.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any, cast

import torch
from torch import Generator, Tensor

from sbi_aalr.checks import check_type
from sbi_aalr.mcmc.ahead import join_steps
from sbi_aalr.mcmc.ahead import look_ahead as look_ahead_with
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State, Steps
from sbi_aalr.types import LogProbFn

_LARGE_SHARE = 20
# Steps of the part with the smallest share before the others have their turn again.
_FEWEST_IN_TURN = 2


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
    for kernel in check_type("kernels", kernels, list | tuple, "a list of kernels"):
        check_type("kernels", kernel, Kernel, "a list of kernels such as `hmc.KERNEL`")
    check_type("probabilities", probabilities, list | tuple, "a list of numbers")
    for share in probabilities:
        check_type("probabilities", share, int | float, "a list of numbers")
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

    is_unconstrained = any(kernel.unconstrained for kernel in kernels)
    needs_prior_units = any(kernel.needs_prior_units for kernel in kernels)
    if is_unconstrained and needs_prior_units:
        raise ValueError(
            "`kernels` must all propose in one space, got one for unconstrained "
            "positions and a proposal in prior units. Make that one with "
            "`from_proposal(..., unconstrained=True)`, for positions without bounds."
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
        order = torch.rand(
            num_chains,
            generator=generator,
            device=position.device,
            dtype=position.dtype,
        ).argsort()
        [ends] = _divide(generator, [num_chains], probabilities)
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

    def look_ahead(
        generator: Generator,
        log_prob_fn: LogProbFn,
        parameters: tuple[Any, ...],
        num_chains: int,
        num_steps: int,
    ) -> Steps:
        turns = _deal(generator, num_steps, probabilities)
        parts: dict[int, Steps] = {}

        def take(state: State, start: int, num_steps: int) -> tuple[State, Info]:
            reports: list[list[Info]] = [[] for _ in kernels]
            every = []
            for index, run in groupby(turns[start : start + num_steps]):
                if index not in parts:
                    parts[index] = look_ahead_with(
                        generator,
                        log_prob_fn,
                        kernel=kernels[index],
                        parameters=parameters[index],
                        num_chains=num_chains,
                        num_steps=turns.count(index),
                    )
                count, before = len(list(run)), turns[:start].count(index)
                state, report = parts[index](state, before, count)
                start += count
                reports[index].append(report)
                every.append(report._replace(log_weight=None, parts=()))
            own = tuple(join_steps(part) if part else None for part in reports)
            return state, join_steps(every)._replace(parts=own)

        return take

    def tune(parameters: tuple[Any, ...], info: Info) -> tuple[Any, ...]:
        if info.parts:
            return tuple(
                part if own is None else kernel.tune(part, own)
                for kernel, part, own in zip(
                    kernels, parameters, info.parts, strict=True
                )
            )
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
        parts = zip(kernels, parameters, strict=True)
        return tuple(kernel.refit(generator, part, draws) for kernel, part in parts)

    def relearn(
        generator: Generator, parameters: tuple[Any, ...], draws: Tensor
    ) -> tuple[Any, ...]:
        parts = zip(kernels, parameters, strict=True)
        return tuple(kernel.relearn(generator, part, draws) for kernel, part in parts)

    return Kernel(
        build,
        propose,
        tune,
        refit,
        look_ahead if any(kernel.look_ahead for kernel in kernels) else None,
        uses_population=any(kernel.uses_population for kernel in kernels),
        unconstrained=is_unconstrained,
        needs_prior_units=needs_prior_units,
        relearn=relearn,
    )


def _deal(
    generator: Generator, num_steps: int, probabilities: Sequence[float]
) -> list[int]:
    """Which kernel makes each of the steps."""
    size = math.ceil(_FEWEST_IN_TURN / min(probabilities) - 1e-6)
    counts = [min(size, num_steps - i) for i in range(0, num_steps, size)]
    turns: list[int] = []
    for ends in _divide(generator, counts, probabilities):
        start = 0
        for index, end in enumerate(ends):
            turns += [index] * (end - start)
            start = end
    return turns


def _divide(
    generator: Generator, counts: Sequence[int], probabilities: Sequence[float]
) -> list[list[int]]:
    """Where each kernel's share of so many chains or steps ends, for each count.

    Plain rounding would never use a kernel whose share is less than a half, so shares
    are rounded by chance. Those that are whole, or large, are not, as that would make
    the host wait for the device; else it waits once.
    """
    edges = [[edge * n for edge in accumulate(probabilities)][:-1] for n in counts]
    offsets = [0.5] * len(counts)
    is_large = min(probabilities) * min(counts) >= _LARGE_SHARE
    if not is_large and any(abs(e - round(e)) > 1e-6 for row in edges for e in row):
        numbers = torch.zeros(len(counts), device=generator.device)
        offsets = numbers.float().uniform_(generator=generator).tolist()
    return [
        [*(math.floor(edge + offset) for edge in row), count]
        for row, offset, count in zip(edges, offsets, counts, strict=True)
    ]
