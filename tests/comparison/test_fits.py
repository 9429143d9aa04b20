"""Networks of every kind come back from disk."""

import warnings

import pytest
import torch

from sbi_aalr.comparison import METHODS
from sbi_aalr.comparison.fits import fit_once
from sbi_aalr.comparison.methods import build_posterior
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
