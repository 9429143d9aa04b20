import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from sbi_aalr import MHPosterior
from sbi_aalr.sampling import ValidPrior
from sbi_aalr.training.validity import fit_validity

PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))
NOISE, X_O = 0.5, torch.tensor([0.6, -0.4])


def log_odds(theta):
    """Log-odds of success: simulations fail where the first parameter is large."""
    return 1 - 3 * theta[..., 0]


def draw(num_rows, seed=1):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(num_rows, 2, generator=generator)
    valid = torch.rand(num_rows, generator=generator) < log_odds(theta).sigmoid()
    return theta[valid], theta[~valid]


@pytest.fixture(scope="module")
def validity():
    return fit_validity(*draw(8_000))


def test_share_of_failures_is_found_as_a_function_of_theta(validity):
    theta = torch.randn(4_000, 2, generator=torch.Generator().manual_seed(2))
    error = validity.log_prob(theta).exp() - log_odds(theta).sigmoid()
    assert error.abs().mean() < 0.03 and abs(error.mean()) < 0.015
    # The constant share is far off.
    assert (log_odds(theta).sigmoid() - 0.6).abs().mean() > 0.25


def test_failures_that_have_nothing_to_do_with_theta_stay_a_constant():
    theta = torch.randn(3_000, 2, generator=torch.Generator().manual_seed(2))
    found = fit_validity(theta[:2_900], theta[2_900:]).log_prob(theta).exp()
    assert abs(found.mean() - 29 / 30) < 0.01 and found.std() < 0.02


def test_thinned_rows_keep_their_share(monkeypatch):
    monkeypatch.setattr("sbi_aalr.training.validity._MOST_ROWS", 500)
    monkeypatch.setattr("sbi_aalr.training.validity._STEPS", 50)
    theta = torch.randn(4_000, 1, generator=torch.Generator().manual_seed(2))
    found = fit_validity(theta[:3_800], theta[3_800:]).log_prob(theta).exp()
    assert abs(found.mean() - 0.95) < 0.02


def test_fit_repeats_and_leaves_the_generators_alone(monkeypatch):
    monkeypatch.setattr("sbi_aalr.training.validity._STEPS", 20)
    before = torch.random.get_rng_state()
    first, second = fit_validity(*draw(300)), fit_validity(*draw(300))
    with torch.no_grad():
        third = fit_validity(*draw(300), seed=3)
    assert all(map(torch.equal, first.weights, second.weights))
    assert not all(map(torch.equal, first.weights, third.weights))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_wrong_rows_are_refused():
    theta = torch.randn(10, 2)
    for valid, failed, message in [
        (theta[:0], theta, "`valid` must have rows"),
        (theta, theta[:0], "`failed` must have rows"),
        (theta, theta[:, :1], "`failed` must have rows"),
        (theta, theta * torch.nan, "`failed` must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_validity(valid, failed)


def potential(theta, x_o):
    """The exact log-ratio of what succeeds, but for its constant; failing asks no x."""
    return Normal(theta, NOISE).log_prob(x_o).sum(dim=-1)


def exact_mean():
    """Posterior mean of the first parameter, given that the simulation succeeded."""
    grid = torch.linspace(-6, 6, 20_001)
    log_density = Normal(0.0, 1.0).log_prob(grid) + Normal(grid, NOISE).log_prob(X_O[0])
    density = (log_density + torch.nn.functional.logsigmoid(1 - 3 * grid)).exp()
    return float((grid * density).sum() / density.sum())


def test_correction_recovers_the_exact_posterior_and_without_it_it_is_wrong(validity):
    means = {}
    for name, prior in [("right", ValidPrior(PRIOR, validity)), ("wrong", PRIOR)]:
        posterior = MHPosterior(
            lambda theta, x_o, prior=prior: (
                potential(theta, x_o) + prior.log_prob(theta)
            ),
            proposal=prior,
        )
        draws = posterior.sample((2_000,), x=X_O, seed=1, show_progress_bars=False)
        means[name] = float(draws[:, 0].mean())
    assert means["right"] == pytest.approx(exact_mean(), abs=0.04)
    assert means["wrong"] == pytest.approx(0.48, abs=0.04)
    assert abs(means["wrong"] - exact_mean()) > 0.2
