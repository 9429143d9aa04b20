"""The one loop over draws, and the warm-up that comes before it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.kernel import Info, Kernel, State, step
from sbi_aalr.types import LogProbFn

# Windows double, so that each refit sees draws from a better kernel than the last; the
# final stretch only tunes the scale.
_REFIT_AT = (0.1, 0.25, 0.5, 0.75)
_DRAWS_PER_WINDOW = 50


def warm_up(
    generator: Generator,
    state: State,
    log_prob_fn: LogProbFn,
    *,
    kernel: Kernel,
    num_steps: int,
    thin: int = 1,
    on_step: Callable[[], object] | None = None,
) -> tuple[State, Any, Chains]:
    """Learn the kernel's parameters, then freeze them.

    Args:
        generator: Source of randomness, on the device of the state.
        state: Starts of the chains.
        log_prob_fn: Log-density, nats.
        kernel: The kernel to adapt.
        num_steps: Number of warm-up steps; zero keeps what the starts say.
        thin: Keep every `thin`-th warm-up draw.
        on_step: Called after every step, for a progress bar.

    Returns:
        The state reached, the frozen parameters and the warm-up draws.
    """
    parameters = kernel.build(generator, state.position)
    ends = sorted({round(fraction * num_steps) for fraction in _REFIT_AT} - {0})
    stride = max(1, num_steps // (4 * _DRAWS_PER_WINDOW))
    window, record = [], _Recorder(state, num_steps // thin, thin)
    for index in range(1, num_steps + 1):
        state, info = step(
            generator, state, log_prob_fn, kernel=kernel, parameters=parameters
        )
        parameters = kernel.tune(parameters, info)
        record(state, info)
        if index % stride == 0:
            window.append(state.position)
        if index in ends and window:
            parameters = kernel.refit(generator, parameters, torch.stack(window))
            window = []
        if on_step is not None:
            on_step()
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
    on_step: Callable[[], object] | None = None,
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
        on_step: Called after every step, for a progress bar.

    Returns:
        The state reached and the draws, oldest first.
    """
    record = _Recorder(state, num_draws, thin)
    for _ in range(num_draws * thin):
        state, info = step(
            generator, state, log_prob_fn, kernel=kernel, parameters=parameters
        )
        record(state, info)
        if on_step is not None:
            on_step()
    return state, record.chains


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
        self._count = 0
        self._acceptance = torch.zeros_like(state.log_prob)

    def __call__(self, state: State, info: Info) -> None:
        self._count += 1
        self._acceptance = self._acceptance + info.acceptance_rate
        draw, rest = divmod(self._count, self._thin)
        if rest == 0 and draw <= self.chains.num_draws:
            self.chains.theta[:, draw - 1] = state.position
            self.chains.log_prob[:, draw - 1] = state.log_prob
            self.chains.acceptance_rate[:, draw - 1] = self._acceptance / self._thin
            self.chains.accepted[:, draw - 1] = info.accepted
            self._acceptance = torch.zeros_like(self._acceptance)
