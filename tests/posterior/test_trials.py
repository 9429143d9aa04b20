"""Errors of a ratio add up over trials, and that is said."""

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O

from sbi_aalr import MHPosterior
from sbi_aalr.errors import TrialsWarning


def test_many_trials_are_told(posterior):
    x = X_O.repeat(21, 1)
    with pytest.warns(TrialsWarning, match="`x` has 21 i.i.d. trials") as caught:
        posterior.sample((5,), x=x, **SHORT)
    assert caught[0].message.value == 21
    assert caught[0].filename == __file__


def test_few_trials_and_many_observations_are_not(posterior):
    # Warnings are errors.
    posterior.sample((5,), x=X_O.repeat(20, 1), **SHORT)
    posterior.sample_batched((5,), X_O.repeat(30, 1), **SHORT)


def test_exact_densities_have_no_errors_to_add():
    def potential(theta, x_o):
        return -(theta[:, None] - x_o).square().sum((1, 2))

    posterior = MHPosterior(potential, PRIOR)
    posterior.sample((5,), x=torch.zeros(200, 2), **SHORT)
