"""Move chains several times, in as few calls as the kernel allows."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel, State, Steps
from sbi_aalr.mcmc.step import step
from sbi_aalr.mcmc.trees import concatenate
from sbi_aalr.types import LogProbFn


def advance(
    generator: Generator,
    state: State,
    log_prob_fn: LogProbFn,
    *,
    kernel: Kernel,
    parameters: Any,
    num_steps: int,
) -> tuple[State, Info]:
    """Move every chain several times, in as few calls as the kernel allows.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Current state.
        log_prob_fn: Log-density, nats.
        kernel: What proposes.
        parameters: The kernel's parameters.
        num_steps: Number of steps, at least 1.

    Returns:
        The state after the last step, and the report of all of them.
    """
    steps = look_ahead(
        generator,
        log_prob_fn,
        kernel=kernel,
        parameters=parameters,
        num_chains=len(state.position),
        num_steps=num_steps,
    )
    return steps(state, 0, num_steps)


def look_ahead(
    generator: Generator,
    log_prob_fn: LogProbFn,
    *,
    kernel: Kernel,
    parameters: Any,
    num_chains: int,
    num_steps: int,
) -> Steps:
    """Make ready for some steps, whatever the kernel.

    Args:
        generator: Source of randomness, on the device of the states.
        log_prob_fn: Log-density, nats.
        kernel: What proposes.
        parameters: The kernel's parameters.
        num_chains: Number of chains, `C`.
        num_steps: Number of steps, at least 1.

    Returns:
        What makes them, some at a time.
    """
    if kernel.look_ahead is not None:
        return kernel.look_ahead(
            generator, log_prob_fn, parameters, num_chains, num_steps
        )

    def take(state: State, start: int, num_steps: int) -> tuple[State, Info]:
        infos = []
        for _ in range(num_steps):
            state, info = step(
                generator, state, log_prob_fn, kernel=kernel, parameters=parameters
            )
            path = State(*(field.unsqueeze(0) for field in state))
            infos.append(info._replace(path=path))
        return state, join_steps(infos)

    return take


def join_steps(infos: Sequence[Info]) -> Info:
    """One report of several that follow each other, each with its path."""
    if len(infos) == 1:
        return infos[0]
    paths = [cast(State, info.path) for info in infos]
    counts = [len(path.log_prob) for path in paths]
    total = sum(
        count * info.acceptance_rate for count, info in zip(counts, infos, strict=True)
    )
    last = infos[-1]
    weights = [info.log_weight for info in infos if info.log_weight is not None]
    parts = [
        [part for part in column if part is not None]
        for column in zip(*(info.parts for info in infos), strict=True)
    ]
    return last._replace(
        acceptance_rate=cast(Tensor, total) / sum(counts),
        proposal=concatenate([info.proposal for info in infos])
        if weights
        else last.proposal,
        log_weight=torch.cat(weights) if weights else None,
        parts=tuple(join_steps(part) if part else None for part in parts),
        path=concatenate(paths),
    )
