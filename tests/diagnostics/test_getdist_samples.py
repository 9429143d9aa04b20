"""What GetDist is handed."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from sbi.utils import BoxUniform, MultipleIndependent
from torch.distributions import (
    AffineTransform,
    ExpTransform,
    Gamma,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Independent,
    LogNormal,
    Normal,
    StickBreakingTransform,
    TransformedDistribution,
    Uniform,
    Weibull,
)

from sbi_aalr.diagnostics import to_datatree, to_getdist
from sbi_aalr.diagnostics.getdist_samples import find_bounds

THETA = torch.arange(48.0).reshape(2, 12, 2)


@pytest.fixture
def handed(monkeypatch):
    """The arguments that GetDist's class gets."""
    found = {}
    module = SimpleNamespace(MCSamples=lambda **given: found.update(given))
    monkeypatch.setitem(sys.modules, "getdist", module)
    return found


def test_every_chain_is_handed_over_with_names_and_bounds(handed):
    tree = to_datatree(THETA, parameter_names=["theta_1", "size"])
    to_getdist(tree, label="mine", bounds=[(0.0, None), (None, None)])
    assert handed["names"] == ["theta_1", "size"]
    assert handed["labels"] == [r"\theta_{1}", r"\mathrm{size}"]
    assert handed["ranges"] == {"theta_1": (0.0, None), "size": (None, None)}
    assert handed["label"] == "mine"
    assert [part.tolist() for part in handed["samples"]] == THETA.tolist()
    # No draw is thrown away: warm-up is not among them.
    assert handed["settings"] == {"ignore_rows": 0}


def test_names_that_getdist_does_not_take_become_labels(handed):
    to_getdist(THETA, parameter_names=["$H_0$", "decay rate"])
    assert handed["names"] == ["p1", "p2"]
    assert handed["labels"] == ["H_0", r"\mathrm{decay~rate}"]


def test_what_does_not_fit_is_named(handed):
    with pytest.raises(ValueError, match="`bounds` must have 2 pairs"):
        to_getdist(THETA, bounds=[(0.0, 1.0)])
    with pytest.raises(ValueError, match="choose one"):
        to_getdist(THETA[:, :, None].expand(-1, -1, 3, -1))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "getdist", None)
    with pytest.raises(ImportError, match="pip install getdist"):
        to_getdist(THETA)


def test_bounds_come_from_the_prior():
    box = BoxUniform(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 2.0]))
    assert find_bounds(box) == [(0.0, 1.0), (-1.0, 2.0)]
    parts = [
        Uniform(torch.zeros(1), torch.full((1,), 3.0)),
        Gamma(torch.ones(1), torch.ones(1)),
        Normal(torch.zeros(1), torch.ones(1)),
    ]
    expected = [(0.0, 3.0), (0.0, None), (None, None)]
    assert find_bounds(MultipleIndependent(parts)) == expected
    normal = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    assert find_bounds(normal) == [(None, None)] * 2


def test_bounds_are_those_of_the_support_and_not_of_what_a_prior_is_made_of():
    one = torch.ones(1)
    for bounded, expected in (
        (Gumbel(one, one), (None, None)),
        (HalfNormal(one), (0.0, None)),
        (HalfCauchy(one), (0.0, None)),
        (Weibull(one, one), (0.0, None)),
    ):
        assert find_bounds(Independent(bounded, 1)) == [expected]


class LogUniform(TransformedDistribution):
    """A prior of the user's, by inheritance."""

    def __init__(self, low, high):
        base = Uniform(torch.tensor([math.log(low)]), torch.tensor([math.log(high)]))
        super().__init__(base, [ExpTransform()])


def test_bounds_of_a_transformed_prior_of_the_users():
    (bounds,) = find_bounds(Independent(LogUniform(1e-3, 10.0), 1))
    assert bounds == pytest.approx((1e-3, 10.0))


def test_a_proposal_that_is_no_distribution_has_no_bounds():
    drawn = SimpleNamespace(sample=lambda shape: torch.zeros(*shape, 3))
    before = torch.get_rng_state()
    assert find_bounds(drawn) == [(None, None)] * 3
    assert torch.equal(torch.get_rng_state(), before)


def test_bounds_of_a_transformed_prior_are_in_its_own_units():
    low, high = torch.tensor([-2.0]), torch.tensor([0.0])
    log_uniform = TransformedDistribution(Uniform(low, high), [ExpTransform()])
    both = MultipleIndependent([log_uniform, LogNormal(high, -low)])
    (lower, upper), log_normal = find_bounds(both)
    assert lower == pytest.approx(math.exp(-2)) and upper == 1.0
    assert log_normal == (0.0, None)
    # Turned round, and under others.
    mirrored = TransformedDistribution(Uniform(low, high), [AffineTransform(1.0, -2.0)])
    assert find_bounds(Independent(mirrored, 1)) == [(1.0, 5.0)]
    joined = TransformedDistribution(
        Independent(Normal(torch.zeros(2), torch.ones(2)), 1),
        [StickBreakingTransform()],
    )
    assert set(find_bounds(joined)) == {(None, None)}


def test_draws_that_are_not_finite_are_refused(handed):
    """GetDist would leave such a parameter out."""
    theta = THETA.clone()
    theta[1, 3, 1] = torch.nan
    with pytest.raises(ValueError, match="`draws` must be finite, got NaN"):
        to_getdist(theta)
