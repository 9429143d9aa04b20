import pytest
import torch
from sbi.utils import BoxUniform
from torch.distributions import MultivariateNormal

from sbi_aalr.sampling import Validity, ValidPrior

PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))
SLOPE = 2.0


def make_validity(slope=SLOPE, logarithmic=0.0):
    """Success with log-odds of minus the slope times the first parameter."""
    weights = [torch.tensor([[-slope, 0.0]]), torch.zeros(1)]
    return Validity(
        torch.zeros(2), torch.ones(2), torch.tensor([logarithmic, 0.0]), weights
    )


def integrate(function, slope=SLOPE):
    """Mean of a function of the first parameter, of which the second knows nothing."""
    grid = torch.linspace(-8, 8, 20_001)
    density = torch.exp(-grid.square() / 2) * torch.sigmoid(-slope * grid)
    return float((function(grid) * density).sum() / density.sum())


def test_log_odds_are_those_of_the_layers():
    theta = torch.tensor([[0.5, 9.0], [-1.0, 3.0]])
    validity = make_validity()
    assert torch.allclose(validity.find_log_odds(theta), -SLOPE * theta[:, 0])
    assert torch.allclose(
        validity.log_prob(theta).exp(), (-SLOPE * theta[:, 0]).sigmoid()
    )
    assert validity.log_prob(theta.expand(3, 2, 2)).shape == (3, 2)
    hidden = [torch.eye(2), torch.zeros(2), torch.ones(1, 2), torch.tensor([1.0])]
    deep = Validity(torch.ones(2), 2 * torch.ones(2), torch.zeros(2), hidden)
    scaled = (theta - 1) / 2
    expected = (scaled * scaled.sigmoid()).sum(1) + 1
    assert torch.allclose(deep.find_log_odds(theta), expected)
    decades = make_validity(logarithmic=1.0)
    assert torch.allclose(decades.find_log_odds(theta[:1]), -SLOPE * theta[:1, 0].log())


def test_weights_that_fit_nothing_are_refused():
    two = torch.zeros(2), torch.ones(2), torch.zeros(2)
    for weights in (
        [],
        [torch.zeros(1, 2)],
        [torch.zeros(1, 3), torch.zeros(1)],
        [torch.zeros(4, 2), torch.zeros(4)],
        [torch.zeros(1, 2), torch.zeros(2)],
        [torch.zeros(2), torch.zeros(1)],
    ):
        with pytest.raises(ValueError, match="`weights` must be those of layers"):
            Validity(*two, weights)


def test_draws_follow_the_prior_of_what_succeeds():
    torch.manual_seed(1)
    prior = ValidPrior(PRIOR, make_validity())
    draws = prior.sample((20_000,))
    assert draws.shape == (20_000, 2) and prior.sample().shape == (2,)
    for function in (torch.as_tensor, torch.square):
        values = function(draws[:, 0])
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - integrate(function)) < 5 * error
        # Those of the prior itself do not.
        wrong = function(PRIOR.sample((20_000,))[:, 0])
        if function is not torch.square:
            assert abs(wrong.mean() - integrate(function)) > 20 * error
    assert abs(draws[:, 1].mean()) < 0.05


def test_density_is_normalised_and_leaves_the_generator_alone():
    prior = ValidPrior(PRIOR, make_validity())
    before = torch.random.get_rng_state()
    grid = torch.linspace(-6, 6, 601)
    theta = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), dim=-1)
    total = prior.log_prob(theta).exp().sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1, abs=0.01)
    assert torch.equal(torch.random.get_rng_state(), before)
    box = BoxUniform(-torch.ones(2), torch.ones(2))
    outside = torch.tensor([[3.0, 0.0]])
    assert ValidPrior(box, make_validity()).log_prob(outside).isneginf().all()


def test_prior_under_which_nothing_succeeds_is_an_error(monkeypatch):
    monkeypatch.setattr("sbi_aalr.sampling.validity._MOST_DRAWS", 10_000)
    weights = [torch.zeros(1, 2), torch.tensor([-60.0])]
    never = Validity(torch.zeros(2), torch.ones(2), torch.zeros(2), weights)
    with pytest.raises(RuntimeError, match=r"Only 0 of .* would be valid"):
        ValidPrior(PRIOR, never).sample((10,))
