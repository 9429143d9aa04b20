"""Networks of every kind come back from disk."""

import warnings

import pytest
import torch
from instant_methods import Task, make_method

from sbi_aalr.comparison import METHODS
from sbi_aalr.comparison.fits import fit_once
from sbi_aalr.comparison.methods import build_posterior
from sbi_aalr.comparison.tasks import adapt_task
from sbi_aalr.simulators import TwoMoons

SEED = 3


@pytest.mark.parametrize(
    "name",
    [
        "aalr",
        "nre_a",
        "npe",
        "nle",
        *[
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("nre_b", "nre_c", "bnre", "snre", "snpe")
        ],
    ],
)
def test_fit_comes_back_from_disk(tmp_path, name):
    method, task = METHODS[name], TwoMoons()
    x_o = torch.zeros(1, 2)
    folder, budget = tmp_path / "fit", 60 if method.rounds == 1 else 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = fit_once(folder, method, task, budget, SEED, x_o)
        second = fit_once(folder, method, task, budget, SEED, x_o)
        theta = task.prior.sample((50,))
        values = [
            build_posterior(method, task, part.network).potential(theta, x=x_o)
            for part in (first, second)
        ]
    assert torch.equal(*values) and torch.isfinite(values[0]).all()
    # Seconds measured anew would differ.
    assert second[1:] == first[1:] and first.train_seconds > 0


def test_fit_depends_on_nothing_that_was_fitted_before(tmp_path, log):
    """It is that of a script which seeds, draws, simulates and trains."""
    task = adapt_task("toy", Task())
    networks = []
    for name in ("one", "two", "one_again"):
        rounds = 2 if name == "two" else 1
        fit = fit_once(
            tmp_path / name, make_method(log, rounds), task, 60, SEED, torch.zeros(1, 2)
        )
        networks.append(fit.network)
    assert torch.equal(networks[0].stand, networks[2].stand)
    assert not torch.equal(networks[0].stand, networks[1].stand)
    torch.manual_seed(SEED)
    theta = Task.prior.sample((60,))
    x = Task().simulate(theta)
    assert torch.equal(networks[0].stand, torch.rand(4))
    assert networks[0].scale == (theta - x / 2).std() * 2**0.5
