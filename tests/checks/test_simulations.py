"""Simulations that exist already are checked before anything is trained on them."""

import warnings

import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic
from sbi.utils import BoxUniform, MultipleIndependent
from sbi.utils.user_input_checks import process_prior
from torch.distributions import (
    Exponential,
    ExpTransform,
    Independent,
    LogNormal,
    TransformedDistribution,
    Uniform,
)

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.checks import check_simulations, find_outside

BOX = BoxUniform(-2 * torch.ones(2), 2 * torch.ones(2))
ZERO, ONE = torch.zeros(2), torch.ones(2)
LOG_UNIFORM = Independent(
    TransformedDistribution(Uniform(-12 * ONE, ZERO), [ExpTransform()]), 1
)


def make_trainer(prior=BOX, classifier="linear"):
    return AALR(prior, classifier, show_progress_bars=False)


def draw(prior, rows, seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return prior.sample((rows,))


def test_parameters_in_wrong_units_are_told_with_their_share():
    theta = draw(BOX, 200)
    x = torch.randn(200, 2)
    with pytest.raises(
        ValueError,
        match=r"`theta` must lie inside the prior, got 200 of 200 rows \(100%\) "
        r"outside it \(first: row 0, .*Give both in the same units",
    ):
        make_trainer().append_simulations(0.2 * theta + 100, x)
    theta[17] += 5
    with pytest.raises(ValueError, match=r"got 1 of 200 rows \(0%\) .*first: row 17"):
        check_simulations(theta, x, prior=BOX)
    theta[17] -= 5
    check_simulations(theta, x, prior=BOX)


@pytest.mark.parametrize(
    "prior",
    [
        BOX,
        PRIOR,
        BoxUniform(1e6 * ONE, 1e6 + ONE),
        BoxUniform(ZERO, torch.tensor([1e-3, 1e9])),
        LOG_UNIFORM,
        process_prior(Exponential(torch.tensor([2.0])))[0],
        MultipleIndependent([LogNormal(ONE[:1], ONE[:1]), Uniform(ZERO[:1], ONE[:1])]),
        Independent(Exponential(ONE), 1),
    ],
)
def test_no_prior_rules_out_its_own_draws(prior):
    assert not find_outside(draw(prior, 10_000), prior).any()


@pytest.mark.parametrize(
    ("prior", "rows"),
    [
        (BOX, [[0.0, 2.1], [-3.0, 0.0]]),
        # The support of a transformed distribution knows nothing of its base.
        (LOG_UNIFORM, [[0.5, 1.1], [1e-9, 0.5], [-1.0, 0.5]]),
        (Independent(Exponential(ONE), 1), [[-1.0, 1.0], [1.0, -1e-6]]),
    ],
)
def test_rows_outside_are_found_among_rows_inside(prior, rows):
    theta = torch.cat((torch.tensor(rows), draw(prior, 5)))
    expected = [True] * len(rows) + [False] * 5
    assert find_outside(theta, prior).tolist() == expected


def test_parameters_of_another_width_than_the_prior_are_told():
    with pytest.raises(
        ValueError, match=r"`theta` must have a column for each of the 2"
    ):
        check_simulations(torch.zeros(10, 3), torch.zeros(10, 2), prior=BOX)


def test_without_a_prior_the_one_of_the_posterior_is_checked():
    trainer = make_trainer(None, build_quadratic)
    theta = draw(BOX, 100)
    trainer.append_simulations(theta, theta + torch.randn(100, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = trainer.train(max_num_epochs=1)
    far, wide = (
        BoxUniform(100 * ONE, 101 * ONE),
        BoxUniform(-torch.ones(3), torch.ones(3)),
    )
    with pytest.raises(
        ValueError, match="`prior` must be that of the simulations, got"
    ):
        trainer.build_posterior(prior=far)
    with pytest.raises(ValueError, match="must have 2 parameters, got 3"):
        trainer.build_posterior(prior=wide)
    with pytest.raises(ValueError, match="must have 2 parameters, got 3"):
        MHPosterior.from_estimator(estimator, wide)
    # A narrower one is another question, and a good one.
    trainer.build_posterior(prior=BoxUniform(ZERO, ONE))
    trainer.build_posterior(prior=BOX)


def test_gradients_do_not_reach_training():
    theta = draw(BOX, 200).requires_grad_()
    x = theta * torch.ones(2, requires_grad=True)
    trainer = make_trainer(BOX, build_quadratic).append_simulations(theta, x)
    assert not trainer._theta_roundwise[0].requires_grad
    assert not trainer._x_roundwise[0].requires_grad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(max_num_epochs=2)


def test_complex_numbers_are_refused():
    theta = draw(BOX, 10)
    with pytest.raises(TypeError, match=r"`x` must hold real numbers, got torch.compl"):
        check_simulations(theta, theta + 0j)
    with pytest.raises(TypeError, match=r"`theta` must hold real numbers, got torch.c"):
        check_simulations(theta + 0j, theta)


def test_rows_with_nan_are_told_with_the_way_to_leave_them_out():
    theta = draw(BOX, 100)
    x = theta.clone()
    x[:3, 1] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    with pytest.raises(
        ValueError,
        match=r"`x` must be finite, .* 3 of 100 rows .*exclude_invalid_x=True",
    ):
        check_simulations(theta, x)
    assert check_simulations(theta, x, allow_invalid_x=True)[1].isnan().sum() == 1


@pytest.mark.parametrize("convert", [torch.clone, torch.Tensor.to_sparse])
def test_stored_simulations_stay_whatever_becomes_of_what_was_given(convert):
    theta, x = torch.rand(20, 2), torch.rand(20, 3)
    given = convert(theta), convert(x)
    stored = check_simulations(*given)
    for rows in given:
        rows.zero_()
    assert torch.equal(stored[0], theta) and torch.equal(stored[1], x)


@pytest.mark.parametrize("name", ["theta", "x"])
def test_tensors_without_numbers_are_named(name):
    rows = {"theta": torch.rand(20, 2), "x": torch.rand(20, 3)}
    rows[name] = rows[name].to("meta")
    with pytest.raises(TypeError, match=f"`{name}` must be a tensor with one number"):
        check_simulations(**rows)
