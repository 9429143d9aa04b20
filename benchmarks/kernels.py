"""Measure every kernel on targets of known difficulty: what decided the default.

    python benchmarks/kernels.py --seed 1

Each kernel runs with its defaults, 32 chains, until R-hat is at most 1.01 and the
effective sample size at least 400, or 20,000 steps are spent. A cell shows effective
draws (bulk or tail, the fewer) a 1,000 evaluations of the target, warm-up included, and
in brackets the worst R-hat where it did not converge.
"""

import argparse
import time
import warnings

import torch
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.simulators import SLCP, TwoMoons


def make_box(dim: int, side: float) -> BoxUniform:
    return BoxUniform(-side * torch.ones(dim), side * torch.ones(dim))


def make_gaussian(dim: int):
    """All correlations 0.99."""
    covariance = 0.99 + 0.01 * torch.eye(dim, dtype=torch.float64)
    precision = torch.linalg.inv(covariance).float()
    return lambda theta, x: -((theta @ precision) * theta).sum(-1) / 2, make_box(dim, 5)


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
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    targets = make_targets(options.seed)
    print("| kernel | " + " | ".join(targets) + " | seconds |")
    print("|---" * (len(targets) + 2) + "|")
    for name in options.kernels:
        started = time.perf_counter()
        cells = [measure(name, *target, options.seed) for target in targets.values()]
        seconds = time.perf_counter() - started
        print(f"| `{name}` | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
