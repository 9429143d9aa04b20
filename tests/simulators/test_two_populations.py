"""The solver of two populations, against scipy's and against what is conserved."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sbi_aalr.simulators import SIR, LotkaVolterraODE
from sbi_aalr.simulators._two_populations import solve


def draw_rates(name, size, seed=1):
    """Rates of prior draws, the most extreme of them first."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theta = (LotkaVolterraODE() if name == "prey" else SIR()).prior.sample((size,))
    if name == "epidemic":
        contact, recovery = theta.unbind(1)
        theta = torch.stack([torch.zeros(size), contact, recovery, contact], 1)
    distance = theta.log().nan_to_num(neginf=0).abs().sum(1)
    return theta[distance.argsort(descending=True)]


def solve_with_scipy(rates, start, times):
    a, b, c, d = rates.double().tolist()

    def slope(_, logs):
        first, second = np.exp(logs)
        return [a - b * second, d * first - c]

    solution = solve_ivp(
        slope,
        (0, times[-1]),
        np.log(start),
        method="DOP853",
        t_eval=times,
        rtol=1e-10,
        atol=1e-10,
    )
    return torch.from_numpy(solution.y.T)


@pytest.mark.parametrize(
    ("name", "start", "interval"),
    [("prey", (30.0, 1.0), 2.1), ("epidemic", (1 - 1e-6, 1e-6), 17.0)],
)
def test_solutions_are_scipy_s(name, start, interval):
    rates = draw_rates(name, 2_000)
    rates = torch.cat([rates[:5], rates[-5:]])
    solution = solve(rates, start, interval, 10)
    times = interval * np.arange(10)
    expected = torch.stack([solve_with_scipy(row, start, times) for row in rates])
    assert solution.dtype == torch.float64 and solution.shape == (10, 10, 2)
    error = (solution - expected).abs().amax()
    assert error < 3e-4
    wrong = solve(1.001 * rates, start, interval, 10)
    assert (wrong - expected).abs().amax() > 3e-4


def test_what_predators_and_prey_conserve_stays():
    rates = draw_rates("prey", 20_000).double()
    logs = solve(rates, (30.0, 1.0), 2.1, 10)
    a, b, c, d = rates[:, None].unbind(-1)
    first, second = logs.unbind(-1)
    terms = [d * first.exp(), -c * first, b * second.exp(), -a * second]
    conserved, size = sum(terms), sum(term.abs() for term in terms)
    assert torch.isfinite(logs).all()
    drift = (conserved - conserved[:, :1]).abs() / size
    assert drift.max() < 1e-3 and drift.median() < 1e-6


def test_rows_do_not_depend_on_one_another():
    rates = draw_rates("prey", 300)
    together = solve(rates, (30.0, 1.0), 2.1, 10)
    torch.testing.assert_close(
        solve(rates[10:13], (30.0, 1.0), 2.1, 10), together[10:13], rtol=0, atol=1e-12
    )


def test_what_cannot_be_solved_is_nan_and_alone():
    # Both grow at one another's expense, and reach infinity in finite time.
    rates = torch.tensor([[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
    solution = solve(rates, (1.0, 1.0), 2.0, 2)
    assert solution[0].isnan().all()
    assert solution[1, 1].tolist() == pytest.approx([2.0, -2.0])
    assert solution[1, 0].tolist() == [math.log(1.0)] * 2
