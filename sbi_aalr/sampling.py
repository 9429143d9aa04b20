"""Sample a batch of observations until each of them has converged.

After warm-up come rounds of draws: an observation is done when its R-hat and effective
sample sizes are good enough, and leaves the batch, so that the slow few do not hold up
the rest. Each round doubles the thinning: every other draw goes, and as many new ones
come, so that memory stays the same and draws are always evenly spaced.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from sbi_aalr.diagnostics import rank_statistics
from sbi_aalr.mcmc import KERNELS, Kernel
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.kernel import State, init, select
from sbi_aalr.mcmc.run import run, warm_up
from sbi_aalr.mcmc.starts import group_nearby
from sbi_aalr.posterior_parameters import MHPosteriorParameters

# Above this number of chains R-hat is nested: each is too short to have a sharp mean.
_MAX_PLAIN_CHAINS = 128
_NUM_SUPERCHAINS = 16


class BatchLogProb(Protocol):
    """A log-density over chains and observations that can drop observations."""

    def __call__(self, position: Tensor, /) -> Tensor:
        """Map positions `(C, B, D)` to log-densities `(C, B)`, nats."""
        ...

    def select(self, index: Tensor) -> "BatchLogProb":
        """The same function for the observations `index` only."""
        ...


class Figures(NamedTuple):
    """Convergence of each observation, `(B, D)` each, and what it took.

    Attributes:
        r_hat: Rank-normalised R-hat, nested where chains are many.
        ess_bulk: Effective sample size of the bulk.
        ess_tail: Effective sample size of the tails.
        stuck_chains: Number of chains that never moved, long.
        acceptance_rate: Mean acceptance rate after warm-up, shape `(B,)`.
        num_steps: Steps after warm-up, shape `(B,)`.
        converged: Whether the limits were met, bool, shape `(B,)`.
    """

    r_hat: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    stuck_chains: Tensor
    acceptance_rate: Tensor
    num_steps: Tensor
    converged: Tensor


class Result(NamedTuple):
    """What sampling a group of observations gives.

    Attributes:
        warmup: Warm-up draws, thinned.
        chains: The draws.
        figures: Their convergence.
    """

    warmup: Chains
    chains: Chains
    figures: Figures


def sample_until_converged(
    generator: Generator,
    log_prob_fn: BatchLogProb,
    starts: Tensor,
    settings: MHPosteriorParameters,
    num_draws: int,
    on_step: Callable[[int], object] = lambda converged: None,
) -> Result:
    """Run warm-up, then rounds of draws until every observation has converged.

    Args:
        generator: Source of randomness, on the device of the starts.
        log_prob_fn: Log-density of all observations, nats.
        starts: Where warm-up begins, shape `(P, B, D)`; the first `C` of these chains
            are drawn from.
        settings: Kernel, lengths and limits.
        num_draws: Draws to keep in each chain, `S`; even where limits are set.
        on_step: Called after every step with the number of converged observations.

    Returns:
        Chains of `num_draws` draws, with their warm-up and their convergence.
    """
    kernel = resolve_kernel(settings.kernel)
    num_chains = settings.num_chains or starts.shape[0]
    state, parameters, warmup = warm_up(
        generator,
        init(starts, log_prob_fn),
        log_prob_fn,
        kernel=kernel,
        num_steps=settings.warmup_steps,
        thin=settings.thin,
        on_step=partial(on_step, 0),
    )
    state = State(state.position[:num_chains], state.log_prob[:num_chains])
    warmup = Chains(*(field[:num_chains] for field in _fields(warmup)))
    superchain = None
    if num_chains > _MAX_PLAIN_CHAINS:
        superchain = group_nearby(starts[:num_chains], _NUM_SUPERCHAINS)
    num_observations = starts.shape[1]
    active = torch.arange(num_observations, device=starts.device)
    chains, thin, num_converged = None, settings.thin, 0
    finished: list[tuple[Tensor, Chains, Figures]] = []
    while True:
        new_draws = num_draws if chains is None else num_draws - chains.num_draws
        state, drawn = run(
            generator,
            state,
            log_prob_fn,
            kernel=kernel,
            parameters=parameters,
            num_draws=new_draws,
            thin=thin,
            on_step=partial(on_step, num_converged),
        )
        chains = drawn if chains is None else _join(chains, drawn)
        figures = measure(chains, superchain, settings, num_draws * thin)
        # A single chain has no R-hat, however long it is.
        hopeless = num_chains < 2 and settings.max_rhat is not None
        out_of_steps = hopeless or 2 * num_draws * thin > settings.max_steps
        no_limits = settings.max_rhat is None and settings.min_ess is None
        done = figures.converged | out_of_steps | no_limits
        num_converged += int(figures.converged.sum())
        leaving, staying = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
        finished.append(
            (active[leaving], _pick(chains, leaving), select(figures, leaving))
        )
        if staying.numel() == 0:
            break
        active = active[staying]
        state = State(state.position[:, staying], state.log_prob[:, staying])
        parameters = select(parameters, staying)
        log_prob_fn = log_prob_fn.select(staying)
        superchain = None if superchain is None else superchain[:, staying]
        chains, thin = _thin_by_two(_pick(chains, staying)), 2 * thin
    order = torch.cat([index for index, _, _ in finished]).argsort()
    return Result(
        warmup,
        _pick(concatenate([part for _, part, _ in finished]), order),
        Figures(
            *(
                torch.cat(f)[order]
                for f in zip(*(f for _, _, f in finished), strict=True)
            )
        ),
    )


def measure(
    chains: Chains,
    superchain: Tensor | None,
    settings: MHPosteriorParameters,
    num_steps: int,
) -> Figures:
    """Measure convergence and compare it with the limits.

    A chain that never moved fails its observation: among many chains, one that is stuck
    hardly changes R-hat.
    """
    theta = chains.theta
    if superchain is None:
        r_hat = rank_statistics.rhat(theta)
    else:
        usable = superchain.shape[0]
        r_hat = rank_statistics.nested_rhat(theta[:usable], superchain)
    ess_bulk, ess_tail = (
        rank_statistics.ess_bulk(theta),
        rank_statistics.ess_tail(theta),
    )
    stuck = rank_statistics.count_stuck_chains(theta)
    passed = stuck == 0
    # Written so that NaN fails.
    if settings.max_rhat is not None:
        passed &= r_hat <= settings.max_rhat
    if settings.min_ess is not None:
        passed &= torch.minimum(ess_bulk, ess_tail) >= settings.min_ess
    steps = torch.full_like(r_hat[:, 0], num_steps, dtype=torch.long)
    acceptance_rate = chains.acceptance_rate.mean(dim=(0, 1))
    converged = passed.all(dim=-1)
    return Figures(r_hat, ess_bulk, ess_tail, stuck, acceptance_rate, steps, converged)


def concatenate(parts: Iterable[Chains]) -> Chains:
    """Put the observations of several chains side by side."""
    return Chains(
        *(torch.cat(f, dim=2) for f in zip(*map(_fields, parts), strict=True))
    )


def resolve_kernel(kernel: str | Kernel) -> Kernel:
    """Return the kernel of that name, or the kernel itself."""
    return KERNELS[kernel] if isinstance(kernel, str) else kernel


def _fields(chains: Chains) -> tuple[Tensor, ...]:
    return chains.theta, chains.log_prob, chains.acceptance_rate, chains.accepted


def _pick(chains: Chains, index: Tensor) -> Chains:
    return Chains(*(field[:, :, index] for field in _fields(chains)))


def _join(first: Chains, second: Chains) -> Chains:
    pairs = zip(_fields(first), _fields(second), strict=True)
    return Chains(*(torch.cat(pair, dim=1) for pair in pairs))


def _thin_by_two(chains: Chains) -> Chains:
    theta, log_prob, rate, accepted = (field[:, 1::2] for field in _fields(chains))
    rate = (rate + chains.acceptance_rate[:, ::2][:, : rate.shape[1]]) / 2
    return Chains(theta, log_prob, rate, accepted)
