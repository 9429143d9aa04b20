"""What a callable may return as a potential, and what not."""

import math
import warnings

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O

from sbi_aalr import MHPosterior
from sbi_aalr.errors import PrecisionWarning


def gaussian(theta, x_o):
    return -(theta - x_o).square().sum(dim=-1) / 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda values: values.sum(),
            ValueError,
            r"got shape \(\)\. Sum over",
        ),
        (lambda values: values[:3], ValueError, r"must return \d+ numbers, \(N,\)"),
        (lambda values: values.expand(2, -1), ValueError, "got shape"),
        (lambda values: None, TypeError, "got NoneType"),
        (lambda values: values.numpy(), TypeError, "got ndarray"),
        (lambda values: values * math.nan, ValueError, "got nan for theta = "),
        (lambda values: values + math.inf, ValueError, "got inf for theta = "),
    ],
)
def test_what_is_no_number_a_row_is_refused(change, error, message):
    posterior = MHPosterior(lambda *given: change(gaussian(*given)), PRIOR)
    with pytest.raises(error, match=message):
        posterior.sample((10,), x=X_O, seed=1, **SHORT)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.double(),
        lambda values: values.unsqueeze(1),
        lambda values: values.where(values > -1e9, -math.inf),
    ],
)
def test_numbers_of_another_form_are_taken(change):
    def sample(potential):
        posterior = MHPosterior(potential, PRIOR)
        return posterior.sample((100,), x=X_O, seed=1, **SHORT)

    found = sample(lambda *given: change(gaussian(*given)))
    assert torch.equal(found, sample(gaussian))
    assert not torch.equal(found, sample(lambda *given: 2 * gaussian(*given)))


def test_a_single_row_may_have_no_dimension_left():
    posterior = MHPosterior(lambda *given: gaussian(*given).squeeze(), PRIOR)
    expected = MHPosterior(gaussian, PRIOR)
    row = torch.zeros(1, 2)
    assert torch.equal(posterior.log_prob(row, X_O), expected.log_prob(row, X_O))


def test_numbers_too_large_to_tell_apart_are_told():
    def shift(by):
        return MHPosterior(lambda *given: gaussian(*given).double() + by, PRIOR)

    settings = {"x": X_O, "seed": 1, **SHORT}
    with pytest.warns(PrecisionWarning, match="Subtract a constant"):
        shift(-1e9).sample((10,), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        shift(-1e3).sample((10,), **settings)
