"""What looking at long vectors as series is worth, against exact posteriors on a grid.

Four problems of 60 to 100 raw numbers, without an embedding net: a random walk, an
AR(1) process, a sine in noise and the cases of an epidemic. Printed for each parameter:
the distance of the posterior's mean from the exact one in exact standard deviations,
and the ratio of the two standard deviations, means over the observations.

    python benchmarks/series.py --without
    python benchmarks/series.py
"""

import argparse
import time
from unittest import mock

import torch
from sbi.utils import BoxUniform
from sbibm import describe_commit, print_conditions
from torch import Tensor

from sbi_aalr import AALR
from sbi_aalr.trainer import begin
from sbi_aalr.training.members import list_members

LENGTH, DAYS = 100, 60
TIMES = torch.linspace(0, 1, LENGTH)
POPULATION = 10_000


def simulate_walk(theta: Tensor) -> Tensor:
    steps = theta[:, :1] + theta[:, 1:] * torch.randn(len(theta), LENGTH)
    return steps.cumsum(dim=1)


def walk_log_prob(theta: Tensor, x: Tensor) -> Tensor:
    steps = torch.diff(x, prepend=torch.zeros(len(x), 1), dim=1)
    drift, size = theta[:, 0], theta[:, 1]
    total, square = steps.sum(dim=1)[:, None], steps.square().sum(dim=1)[:, None]
    misfit = square - 2 * drift * total + LENGTH * drift**2
    return -LENGTH * size.log() - misfit / (2 * size**2)


def simulate_ar1(theta: Tensor) -> Tensor:
    x = [torch.randn(len(theta))]
    for _ in range(LENGTH - 1):
        x.append(theta[:, 0] * x[-1] + torch.randn(len(theta)))
    return torch.stack(x, dim=1)


def ar1_log_prob(theta: Tensor, x: Tensor) -> Tensor:
    square = x[:, :-1].square().sum(dim=1)[:, None]
    product = (x[:, :-1] * x[:, 1:]).sum(dim=1)[:, None]
    return theta[:, 0] * product - theta[:, 0] ** 2 * square / 2


def find_sine(theta: Tensor) -> Tensor:
    return theta[:, 1:] * torch.sin(2 * torch.pi * theta[:, :1] * TIMES)


def simulate_sine(theta: Tensor) -> Tensor:
    return find_sine(theta) + torch.randn(len(theta), LENGTH)


def sine_log_prob(theta: Tensor, x: Tensor) -> Tensor:
    mean = find_sine(theta)
    return x @ mean.T - mean.square().sum(dim=1) / 2


def find_cases(theta: Tensor) -> Tensor:
    """Expected cases a day, of which three in ten are reported."""
    susceptible = torch.full((len(theta),), POPULATION - 10.0, dtype=theta.dtype)
    infected = torch.full_like(susceptible, 10.0)
    cases = []
    for _ in range(DAYS):
        new = theta[:, 0] * susceptible * infected / POPULATION
        susceptible, infected = (
            susceptible - new,
            infected + new - theta[:, 1] * infected,
        )
        cases.append(0.3 * new)
    return torch.stack(cases, dim=1)


def simulate_epidemic(theta: Tensor) -> Tensor:
    return torch.poisson(find_cases(theta))


def epidemic_log_prob(theta: Tensor, x: Tensor) -> Tensor:
    cases = find_cases(theta)
    return x @ cases.log().T - cases.sum(dim=1)


# Simulator, log-likelihood, and the least and greatest value of each parameter.
PROBLEMS = {
    "random walk": (
        simulate_walk,
        walk_log_prob,
        {"drift": (-1.0, 1.0), "size of steps": (0.5, 2.0)},
    ),
    "AR(1)": (simulate_ar1, ar1_log_prob, {"coefficient": (-0.95, 0.95)}),
    "sine": (
        simulate_sine,
        sine_log_prob,
        {"frequency": (1.0, 3.0), "amplitude": (0.5, 2.0)},
    ),
    "epidemic": (
        simulate_epidemic,
        epidemic_log_prob,
        {"infection": (0.15, 0.5), "recovery": (0.05, 0.15)},
    ),
}


def find_exact(log_prob, ranges, x):
    """Exact mean and sd of each parameter, shape `(B, D)`, on a grid."""
    num_points = 40_001 if len(ranges) == 1 else 401
    axes = [torch.linspace(*ends, num_points).double() for ends in ranges]
    grid = torch.cartesian_prod(*axes).reshape(-1, len(ranges))
    x = x.double()
    weight = torch.cat([log_prob(grid, row) for row in x.split(10)]).softmax(dim=1)
    mean = weight @ grid
    return mean, (weight @ grid.square() - mean.square()).sqrt()


def leave_out_series(*arguments):
    return [one for one in list_members(*arguments) if "is_series" not in one.settings]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--without", action="store_true", help="as no series")
    parser.add_argument("--num-simulations", type=int, default=3_000)
    parser.add_argument("--num-observations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    print_conditions(describe_commit(), settings.seed)
    choose = leave_out_series if settings.without else list_members
    for name, (simulate, log_prob, parameters) in PROBLEMS.items():
        torch.manual_seed(settings.seed)
        ranges = list(parameters.values())
        prior = BoxUniform(*torch.tensor(ranges).T)
        theta = prior.sample((settings.num_simulations,))
        trainer = AALR(prior, show_progress_bars=False)
        trainer.append_simulations(theta, simulate(theta))
        x = simulate(prior.sample((settings.num_observations,)))
        started = time.process_time()
        with mock.patch.object(begin, "list_members", choose):
            trainer.train(seed=settings.seed)
        seconds = time.process_time() - started
        draws = trainer.build_posterior().sample_batched(
            (1_000,), x, seed=settings.seed, show_progress_bars=False
        )
        mean, sd = find_exact(log_prob, ranges, x)
        distance = ((draws.mean(dim=0) - mean) / sd).abs().mean(dim=0)
        ratio = (draws.std(dim=0) / sd).mean(dim=0)
        print(f"{name}, {seconds:.0f} s of one core")
        for parameter, off, width in zip(parameters, distance, ratio, strict=True):
            print(f"    {parameter}: mean {off:.2f} sd off, sd {width:.2f} as wide")


if __name__ == "__main__":
    main()
