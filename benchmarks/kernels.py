"""Measure every kernel on targets of known difficulty: what decided the default.

    python benchmarks/kernels.py --seed 1
    python benchmarks/kernels.py --dims 15 20 25 30 --kernels jump_walk hmc

Each kernel runs with its defaults, 32 chains, until R-hat is at most 1.01 and the
effective sample size at least 400, or 20,000 steps are spent. A cell shows effective
draws (bulk or tail, the fewer) a 1,000 evaluations of the target, warm-up included, and
in brackets the worst R-hat where it did not converge. With `--dims` the targets are, in
each number of dimensions, a Gaussian with correlations of 0.5, one of 0.99, and two
Gaussians: what decided up to how many parameters `"auto"` takes `"jump_walk"`.
"""

import argparse
import math
import time
import warnings

import torch
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.simulators import SLCP, TwoMoons


def make_box(dim: int, side: float) -> BoxUniform:
    return BoxUniform(-side * torch.ones(dim), side * torch.ones(dim))


def make_gaussian(dim: int, correlation: float = 0.99):
    """All correlations alike."""
    eye = torch.eye(dim, dtype=torch.float64)
    covariance = correlation + (1 - correlation) * eye
    precision = torch.linalg.inv(covariance).float()
    return lambda theta, x: -((theta @ precision) * theta).sum(-1) / 2, make_box(dim, 5)


def make_two_modes(dim: int):
    """Shares 0.3 and 0.7, at ±2 in all parameters, with widths of 0.5."""

    def log_likelihood(theta, x):
        parts = [
            math.log(share) - 2 * (theta - centre).square().sum(-1)
            for share, centre in ((0.3, 2.0), (0.7, -2.0))
        ]
        return torch.logaddexp(*parts)

    return log_likelihood, make_box(dim, 5)


def make_targets_of_dims(dims) -> dict:
    targets = {}
    for dim in dims:
        targets[f"Gaussian 0.5, {dim}-D"] = make_gaussian(dim, 0.5)
        targets[f"Gaussian 0.99, {dim}-D"] = make_gaussian(dim)
        targets[f"two modes, {dim}-D"] = make_two_modes(dim)
    return targets


def log_banana(theta, x):
    x, y = theta.T
    return -x.square() / 2 - (y - x.square()).square() / 0.08


def log_corner(theta, x):
    return -(torch.tensor([1.0, 5, 20]) * theta).sum(dim=-1)


def make_simulated(problem, seed: int):
    torch.manual_seed(seed)
    x_o = problem.simulate(problem.prior.sample((1,)))

    def log_likelihood(theta, x):
        return problem.log_likelihood(theta, x_o.expand(len(theta), -1))

    return log_likelihood, problem.prior


def make_targets(seed: int) -> dict:
    return {
        "SLCP": make_simulated(SLCP(), seed),
        "two moons": make_simulated(TwoMoons(), seed),
        "Gaussian, 10-D": make_gaussian(10),
        "Gaussian, 50-D": make_gaussian(50),
        "banana": (log_banana, make_box(2, 8)),
        "bounded box": (log_corner, BoxUniform(torch.zeros(3), torch.ones(3))),
    }


def measure(name: str, log_likelihood, prior, seed: int) -> str:
    evaluations = 0

    def potential(theta, x_o):
        nonlocal evaluations
        evaluations += len(theta)
        return log_likelihood(theta, x_o) + prior.log_prob(theta)

    posterior = MHPosterior(
        potential, prior, kernel=name, num_chains=32, max_steps=20_000
    )
    posterior.sample((3_200,), x=torch.zeros(1), seed=seed, show_progress_bars=False)
    figures = posterior.diagnostics()
    ess = min(float(figures["ess_bulk"].min()), float(figures["ess_tail"].min()))
    r_hat = float(figures["r_hat"].max())
    cell = f"{1e3 * ess / evaluations:.2g}"
    return cell if bool(figures["converged"]) else f"{cell} ({r_hat:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS))
    parser.add_argument("--dims", nargs="+", type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    targets = make_targets(options.seed)
    if options.dims:
        targets = make_targets_of_dims(options.dims)
    print("| kernel | " + " | ".join(targets) + " | seconds |")
    print("|---" * (len(targets) + 2) + "|")
    for name in options.kernels:
        started = time.perf_counter()
        cells = [measure(name, *target, options.seed) for target in targets.values()]
        seconds = time.perf_counter() - started
        print(f"| `{name}` | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
