"""The one loop over draws, and the warm-up that comes before it."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.ahead import advance
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.kernel import Info, Kernel, State
from sbi_aalr.types import LogProbFn

# Windows double, so that each refit sees draws from a better kernel than the last; the
# final stretch only tunes the scale.
_REFIT_AT = (0.1, 0.25, 0.5, 0.75)
_DRAWS_PER_WINDOW = 50
# Steps between two looks at what was learned, for a kernel that makes several at once.
_BLOCK = 10
# Where chains are few, more steps are made at once, up to about as many rows.
_BLOCK_ROWS = 2**12


def warm_up(
    generator: Generator,
    state: State,
    log_prob_fn: LogProbFn,
    *,
    kernel: Kernel,
    num_steps: int,
    points: Tensor | None = None,
    thin: int = 1,
    block: int | None = None,
    on_step: Callable[[int], object] | None = None,
) -> tuple[State, Any, Chains]:
    """Learn the kernel's parameters, then freeze them.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Starts of the chains.
        log_prob_fn: Log-density, nats.
        kernel: The kernel to adapt.
        num_steps: Number of warm-up steps; zero keeps what the starts say.
        points: What the kernel is built from, shape `(P, B, D)`; by default the starts.
        thin: Keep every `thin`-th warm-up draw, or the last of each block of steps that
            the kernel makes at once where that is longer.
        block: Most steps to make at once; None for as many as suit the kernel.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        The state reached, the frozen parameters and the warm-up draws.
    """
    parameters = kernel.build(generator, state.position if points is None else points)
    ends = sorted({round(fraction * num_steps) for fraction in _REFIT_AT} - {0})
    stride = max(1, num_steps // (4 * _DRAWS_PER_WINDOW))
    block = min(block_size(kernel), block or _BLOCK)
    thin = max(thin, block)
    record = _Recorder(state, num_steps // thin, thin)
    window, done = [], 0
    for count in _divide(num_steps, block):
        state, info = advance(
            generator,
            state,
            log_prob_fn,
            kernel=kernel,
            parameters=parameters,
            num_steps=count,
        )
        parameters = kernel.tune(parameters, info)
        record(state, info, count)
        done += count
        if done % stride < count:
            window.append(state.position)
        if ends and done >= ends[0]:
            ends.pop(0)
            parameters = kernel.refit(generator, parameters, torch.stack(window))
            window = []
        if on_step is not None:
            on_step(count)
    return state, adaptation.freeze(parameters), record.chains


def run(
    generator: Generator,
    state: State,
    log_prob_fn: LogProbFn,
    *,
    kernel: Kernel,
    parameters: Any,
    num_draws: int,
    thin: int = 1,
    max_rows: int | None = None,
    on_step: Callable[[int], object] | None = None,
) -> tuple[State, Chains]:
    """Draw from the target with a frozen kernel.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Where the chains stand.
        log_prob_fn: Log-density, nats.
        kernel: The kernel.
        parameters: Its frozen parameters.
        num_draws: Draws to keep in each chain, `S`.
        thin: Steps from one kept draw to the next.
        max_rows: Most rows to evaluate at once, but ten for each chain; None for as
            many as are quick.
        on_step: Called with the number of steps made, for a progress bar.

    Returns:
        The state reached and the draws, oldest first.
    """
    record = _Recorder(state, num_draws, thin)
    rows = _BLOCK_ROWS if max_rows is None else min(_BLOCK_ROWS, max_rows)
    block = max(_BLOCK, rows // state.log_prob.numel())
    at_once = 1 if kernel.look_ahead is None else block
    for num_kept in _divide(num_draws, max(1, at_once // thin)):
        for count in _divide(num_kept * thin, block):
            before = state
            state, info = advance(
                generator,
                state,
                log_prob_fn,
                kernel=kernel,
                parameters=parameters,
                num_steps=count,
            )
            if num_kept == 1:
                record(state, info, count)
            else:
                record.add_path(before, info)
        if on_step is not None:
            on_step(num_kept * thin)
    return state, record.chains


def block_size(kernel: Kernel) -> int:
    """Rows a chain that a kernel evaluates at once."""
    return 1 if kernel.look_ahead is None else _BLOCK


def _divide(num_steps: int, block: int) -> Iterator[int]:
    """Cut a number of steps into blocks, the last of which may be shorter."""
    for start in range(0, num_steps, block):
        yield min(block, num_steps - start)


class _Recorder:
    """Writes every `thin`-th state into chains that are allocated once."""

    def __init__(self, state: State, num_draws: int, thin: int) -> None:
        num_chains, num_observations, dim = state.position.shape
        shape = (num_chains, num_draws, num_observations)
        new = state.log_prob.new_empty
        self.chains = Chains(
            theta=state.position.new_empty((*shape, dim)),
            log_prob=new(shape),
            acceptance_rate=new(shape),
            accepted=new(shape, dtype=torch.bool),
        )
        self._thin = thin
        self._draw, self._count = 0, 0
        self._acceptance = torch.zeros_like(state.log_prob)

    def __call__(self, state: State, info: Info, num_steps: int) -> None:
        self._count += num_steps
        self._acceptance = self._acceptance + num_steps * info.acceptance_rate
        if self._count >= self._thin and self._draw < self.chains.num_draws:
            self.chains.theta[:, self._draw] = state.position
            self.chains.log_prob[:, self._draw] = state.log_prob
            self.chains.acceptance_rate[:, self._draw] = self._acceptance / self._count
            self.chains.accepted[:, self._draw] = info.accepted
            self._draw, self._count = self._draw + 1, 0
            self._acceptance = torch.zeros_like(self._acceptance)

    def add_path(self, before: State, info: Info) -> None:
        """Write every `thin`-th state of a path that ends with one to keep."""
        path = cast(State, info.path)
        position, log_prob = path
        has_moved = torch.cat((before.position.unsqueeze(0), position)).diff(dim=0)
        every = slice(self._thin - 1, None, self._thin)
        kept = slice(self._draw, self._draw + len(log_prob[every]))
        self.chains.theta[:, kept] = position[every].transpose(0, 1)
        self.chains.log_prob[:, kept] = log_prob[every].transpose(0, 1)
        self.chains.acceptance_rate[:, kept] = info.acceptance_rate.unsqueeze(1)
        accepted = has_moved[every].ne(0).any(dim=-1)
        self.chains.accepted[:, kept] = accepted.transpose(0, 1)
        self._draw = kept.stop
