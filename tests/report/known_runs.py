"""Twenty runs whose quality is known, for the verdict to find out.

Ratio and prior factorise over parameters, so that posteriors are sampled on a grid of
each parameter: exactly, also with a ratio that was spoiled on purpose.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch.distributions import Distribution, Independent, Normal, Uniform

from sbi_aalr import AALR
from sbi_aalr.diagnostics import to_datatree
from sbi_aalr.seeding import seeded

WIDTH = 2
_LOW, _HIGH = -3.0, 3.0
_CELLS = 300
GRID = torch.linspace(_LOW, _HIGH, _CELLS + 1)[:-1] + (_HIGH - _LOW) / _CELLS / 2


def _keep(value):
    return value


@dataclass(frozen=True)
class Problem:
    """A prior, its simulator, and the exact log-ratio of one parameter and feature.

    Attributes:
        signal: What of a parameter is seen.
        noise: Width of the noise.
        repeats: How many features each parameter gives.
    """

    prior: Distribution
    simulate: Callable
    signal: Callable
    noise: float
    repeats: int = 1

    def log_ratio(self, theta, x):
        """Log-likelihood of features `x`, for theta of like shape, nats."""
        return Normal(self.signal(theta), self.noise).log_prob(x)

    def log_evidence(self, rows):
        """Log p(x) of features `(N, R, D)` of each parameter, `(N, D)`, nats."""
        mean = rows.mean(dim=1)
        around = Normal(mean[:, None], self.noise).log_prob(rows).sum(dim=1)
        off = (self.signal(GRID) - mean[..., None]) / self.noise
        table = -0.5 * rows.shape[1] * off**2
        return around + table.logsumexp(dim=-1) - math.log(len(GRID))


def _make_direct(noise=0.6, repeats=1):
    """x = theta + noise, several times over."""
    prior = Independent(
        Uniform(torch.full((WIDTH,), _LOW), torch.full((WIDTH,), _HIGH)), 1
    )

    def simulate(theta):
        x = theta.repeat(1, repeats)
        return x + noise * torch.randn_like(x)

    return Problem(prior, simulate, _keep, noise, repeats)


def _make_folded(noise=0.4):
    """x = |theta| + noise: four modes that are alike."""
    direct = _make_direct(noise)

    def simulate(theta):
        return theta.abs() + noise * torch.randn_like(theta)

    return replace(direct, simulate=simulate, signal=torch.abs)


DIRECT, FOLDED, REPEATED = _make_direct(), _make_folded(), _make_direct(0.6, 10)


class GridPosterior:
    """The posterior of a ratio over the grid, by inversion; one has `parameters`."""

    def __init__(self, problem, spoil=lambda ratio: ratio):
        self.problem = problem
        self.ratio = spoil(problem.log_ratio)

    def _tabulate(self, x):
        """Log-densities over the grid, `(B, D, G)`, normalised to sum to one."""
        rows = x.reshape(len(x), self.problem.repeats, WIDTH)
        table = self.ratio(GRID, rows[..., None]).sum(dim=1)
        return table.log_softmax(dim=-1)

    def sample_batched(self, sample_shape, x, show_progress_bars=False):
        table = self._tabulate(x).exp().flatten(0, 1)
        count = torch.Size(sample_shape).numel()
        index = table.multinomial(count, replacement=True)
        theta = GRID[index] + (torch.rand(index.shape) - 0.5) * (GRID[1] - GRID[0])
        return theta.reshape(len(x), WIDTH, count).permute(2, 0, 1)

    def potential(self, theta, x):
        return self.log_ratio(theta, x.expand(len(theta), -1))

    def log_ratio(self, theta, x):
        """Log r(x|theta), `(N,)`, with its normaliser from the grid."""
        rows = x.reshape(len(x), self.problem.repeats, WIDTH)
        value = self.ratio(theta[:, None], rows).sum(dim=1)
        return (value - self.problem.log_evidence(rows)).sum(dim=-1)


@dataclass(frozen=True)
class Run:
    """One run, and whether it may be trusted.

    Attributes:
        problem: What was inferred.
        good: Whether no flaw is there to be found.
        spoil: What is done to the log-ratio.
        spoil_draws: What is done to the chains `(4, 500, B, D)`.
        observe: Makes the data that were seen; by default the simulator does.
        count: Number of observations.
        seed: Of everything.
    """

    problem: Problem
    good: bool = False
    spoil: Callable = _keep
    spoil_draws: Callable = _keep
    observe: Callable | None = None
    count: int = 1
    seed: int = 1
    posterior: Callable | None = field(default=None)

    def make(self):
        """Return the tree of chains, the posterior and its log-ratio."""
        with seeded(self.seed):
            theta = 0.6 * self.problem.prior.sample((self.count,))
            x_o = (self.observe or self.problem.simulate)(theta)
            posterior = (self.posterior or GridPosterior)(self.problem, self.spoil)
            draws = posterior.sample_batched((2_000,), x_o)
            chains = self.spoil_draws(draws.reshape(4, 500, self.count, WIDTH))
        single = self.count == 1
        tree = to_datatree(
            chains[:, :, 0] if single else chains,
            observed_data=x_o[0] if single else x_o,
        )
        return tree, posterior, posterior.log_ratio


def scale(factor):
    """A ratio that is too sharp, or too flat."""
    return lambda ratio: lambda theta, x: factor * ratio(theta, x)


def shift(by):
    """A ratio of other parameters than those given."""
    return lambda ratio: lambda theta, x: ratio(theta + by, x)


def _hold_still(theta):
    theta = theta.clone()
    theta[1] = theta[1, :1]
    return theta


def _part_ways(theta):
    return theta + torch.linspace(0, 1.5, 4)[:, None, None, None]


def _miss_modes(theta):
    return theta.abs()


def _miscount_modes(theta):
    flips = torch.where(torch.rand(theta.shape) < 0.9, 1.0, -1.0)
    return theta.abs() * flips


class Overfitted(GridPosterior):
    """What a network makes of 100 simulations that it has learnt by heart."""

    def __init__(self, problem, spoil):
        super().__init__(problem, spoil)
        trainer = AALR(problem.prior, "mlp", show_progress_bars=False)
        theta = problem.prior.sample((100,))
        trainer.append_simulations(theta, problem.simulate(theta))
        self.estimator = trainer.train(
            learning_rate=5e-3,
            training_batch_size=50,
            stop_after_epochs=10**6,
            max_num_epochs=600,
            seed=1,
        )

    @torch.no_grad()
    def log_ratio(self, theta, x):
        """What the network says, as wrong as it is."""
        return self.estimator(theta, x.expand(len(theta), -1))

    def sample_batched(self, sample_shape, x, show_progress_bars=False):
        count = torch.Size(sample_shape).numel()
        candidates = self.problem.prior.sample((20_000,))
        columns = []
        for row in x:
            weights = self.log_ratio(candidates, row[None]).softmax(dim=0)
            columns.append(candidates[weights.multinomial(count, replacement=True)])
        return torch.stack(columns, dim=1)


def _observe_louder(theta):
    x = theta.repeat(1, 10)
    return x + 2.0 * 0.6 * torch.randn_like(x)


def _observe_elsewhere(theta):
    return DIRECT.simulate(theta) + 40.0


RUNS = {
    "exact": Run(DIRECT, good=True),
    "exact, other data": Run(DIRECT, good=True, seed=5),
    "exact, four modes": Run(FOLDED, good=True),
    "exact, ten times over": Run(REPEATED, good=True),
    "exact, many observations": Run(DIRECT, good=True, count=20),
    "over-confident": Run(DIRECT, spoil=scale(2.0)),
    "over-confident, four modes": Run(FOLDED, spoil=scale(2.0)),
    "over-confident, ten times over": Run(REPEATED, spoil=scale(1.8)),
    "under-confident": Run(DIRECT, spoil=scale(0.5)),
    "under-confident, four modes": Run(FOLDED, spoil=scale(0.4)),
    "under-confident, many observations": Run(DIRECT, spoil=scale(0.5), count=20),
    "shifted": Run(DIRECT, spoil=shift(0.4)),
    "shifted, four modes": Run(FOLDED, spoil=shift(0.3)),
    "shifted a little, ten times over": Run(REPEATED, spoil=shift(0.15)),
    "stuck": Run(DIRECT, spoil_draws=_hold_still),
    "chains apart": Run(DIRECT, spoil_draws=_part_ways),
    "missed modes": Run(FOLDED, spoil_draws=_miss_modes),
    "miscounted modes": Run(FOLDED, spoil_draws=_miscount_modes),
    "over-fitted": Run(DIRECT, posterior=Overfitted),
    "wrong simulator": Run(REPEATED, observe=_observe_louder),
    "far data": Run(DIRECT, observe=_observe_elsewhere),
}


@cache
def get_run(name):
    """The parts of a run, made once."""
    return RUNS[name].make()
