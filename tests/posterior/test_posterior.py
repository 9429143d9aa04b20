"""`MHPosterior`: shapes, densities, work done, settings."""

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O, draw_pairs, exact_posterior, log_ratio
from sbi.inference.potentials import ratio_estimator_based_potential
from sbi.utils import BoxUniform
from torch import nn
from torch.distributions import Dirichlet, Exponential, Gamma, Independent, Uniform

from sbi_aalr import MHPosterior, networks

# Long enough for moments; R-hat and ESS are asked for where they matter.
LONGER = {**SHORT, "num_chains": 100, "warmup_steps": 100, "thin": 5}
TRIALS = torch.tensor([[1.0, -2.0], [0.5, 0.0], [2.0, -1.0]])


@pytest.mark.parametrize("shape", [(), (1,), (7,), (250,), (2, 3), [4]])
def test_sample_has_the_shape_asked_for(posterior, shape):
    assert posterior.sample(shape, x=X_O, **SHORT).shape == (*shape, 2)
    observations = X_O.repeat(3, 1)
    draws = posterior.sample_batched(shape, x=observations, **SHORT)
    assert draws.shape == (*shape, 3, 2)


@pytest.mark.parametrize(
    "x", [X_O, X_O[None], X_O.numpy(), X_O.tolist(), X_O.double(), X_O.int().tolist()]
)
def test_x_is_taken_in_every_form(posterior, x):
    expected = posterior.sample((5,), x=X_O, seed=1, **SHORT)
    assert torch.equal(posterior.sample((5,), x=x, seed=1, **SHORT), expected)
    assert torch.equal(
        posterior.set_default_x(x).sample((5,), seed=1, **SHORT), expected
    )


def test_draws_have_the_exact_mean_and_spread(posterior):
    draws = posterior.sample((10_000,), x=X_O, seed=1, show_progress_bars=False)
    assert posterior.diagnostics().ess_bulk.min() > 400
    mean, std = exact_posterior(X_O)
    error = std / float(posterior.diagnostics().ess_bulk.min()) ** 0.5
    assert ((draws.mean(dim=0) - mean).abs() < 5 * error + 0.05).all()
    torch.testing.assert_close(draws.std(0), std * torch.ones(2), rtol=0.1, atol=0)
    # The control: another observation has another posterior.
    assert ((draws.mean(dim=0) - exact_posterior(-X_O)[0]).abs() > 0.3).all()


def test_batched_draws_belong_to_their_observation(posterior):
    observations = torch.tensor([[3.0, 3.0], [0.0, 0.0], [-3.0, 3.0]])
    draws = posterior.sample_batched((2_000,), observations, seed=1, **LONGER)
    for index, x in enumerate(observations):
        error = draws[:, index].mean(dim=0) - exact_posterior(x)[0]
        assert error.abs().max() < 0.15


def test_trials_are_summed(posterior):
    theta = draw_pairs(50, seed=1)[0]
    potential_fn, _ = ratio_estimator_based_potential(
        posterior.potential_fn.ratio_estimator, PRIOR, x_o=None
    )
    for x in (X_O, TRIALS):
        potential_fn.set_x(x, x_is_iid=True)
        expected = potential_fn(theta, track_gradients=False)
        torch.testing.assert_close(posterior.potential(theta, x=x), expected)
        normalised = expected - posterior.normaliser(x).log_normaliser
        torch.testing.assert_close(posterior.log_prob(theta, x=x), normalised)
    draws = posterior.sample((5_000,), x=TRIALS, seed=1, **LONGER)
    mean, std = exact_posterior(TRIALS)
    assert (draws.mean(dim=0) - mean).abs().max() < 0.1
    torch.testing.assert_close(draws.std(0), std * torch.ones(2), rtol=0.1, atol=0)


def test_log_prob_is_the_normalised_density(posterior):
    theta = exact_posterior(X_O)[0] + torch.randn(
        200, 2, generator=torch.Generator().manual_seed(0)
    )
    exact = log_ratio(theta, X_O) + PRIOR.log_prob(theta)
    log_prob = posterior.log_prob(theta, x=X_O)
    assert log_prob.shape == (200,)
    assert not log_prob.requires_grad
    assert (log_prob - exact).abs().mean() < 0.1
    assert posterior.log_prob(theta[0], x=X_O).shape == (1,)
    grid = torch.cartesian_prod(*2 * [torch.linspace(-5, 5, 101)])
    assert posterior.log_prob(grid, x=X_O).exp().sum() * 0.01 == pytest.approx(1, 0.02)
    # Of several trials the ratio is not a ratio of densities, but the density is one.
    several = posterior.log_prob(grid, x=torch.stack((X_O, X_O)))
    assert several.exp().sum() * 0.01 == pytest.approx(1, 0.02)
    error = posterior.normaliser(X_O).standard_error
    assert 0 < error < 0.02


def test_log_prob_can_be_differentiated(posterior):
    theta = torch.zeros(3, 2, requires_grad=True)
    posterior.log_prob(theta, x=X_O, track_gradients=True).sum().backward()
    # The exact gradient at 0 is x / noise^2.
    torch.testing.assert_close(theta.grad, X_O.repeat(3, 1) / 2.25, atol=0.1, rtol=0)


def count_rows(module):
    rows = []
    module.register_forward_hook(lambda module, inputs, _: rows.append(len(inputs[0])))
    return rows


def test_x_is_embedded_once_and_nothing_is_evaluated_twice():
    theta, _, x = draw_pairs(100, seed=1)
    estimator = networks.mlp((8,), embedding_net_x=nn.Linear(2, 3))(theta, x)
    embedded = count_rows(estimator.embedding_net_x)
    evaluated = count_rows(estimator.net)
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    settings = {**SHORT, "kernel": "random_walk", "num_chains": 100}
    posterior.sample_batched((300,), x[:4], **settings, init_strategy="proposal")
    assert embedded == [4]
    # Starts, warm-up and draws, of 100 chains for each of 4 observations.
    assert sum(evaluated) == 4 * 100 * (1 + 20 + 3 * 2)
    embedded.clear()
    posterior.sample_batched((30,), x[:4], **settings)
    assert embedded == [4]


def test_map_is_the_mode(posterior):
    posterior.set_default_x(X_O)
    found = posterior.map(num_iter=200, num_init_samples=50, num_to_optimize=10)
    torch.testing.assert_close(
        found.squeeze(), exact_posterior(X_O)[0], atol=0.15, rtol=0
    )


def test_to_moves_and_returns_the_posterior(posterior):
    posterior.set_default_x(X_O)
    expected = posterior.sample((5,), seed=1, **SHORT)
    assert posterior.to("cpu") is posterior
    assert torch.equal(posterior.sample((5,), seed=1, **SHORT), expected)


def test_any_callable_serves_as_potential():
    def potential(theta, x_o):
        return -(theta - x_o).square().sum(dim=-1) / 2

    with pytest.raises(TypeError, match="`proposal` must be a distribution"):
        MHPosterior(potential)
    # Chains cannot move where parameters sum to one.
    with pytest.raises(ValueError, match="`proposal` must have parameters that can"):
        MHPosterior(potential, proposal=Dirichlet(torch.ones(2)))
    posterior = MHPosterior(potential, proposal=PRIOR)
    draws = posterior.sample((5_000,), x=X_O, seed=1, **LONGER)
    assert (draws.mean(dim=0) - X_O).abs().max() < 0.15
    batched = posterior.sample_batched(
        (2_000,), torch.stack((X_O, -X_O)), seed=1, **LONGER
    )
    assert (batched.mean(dim=0) - torch.stack((X_O, -X_O))).abs().max() < 0.3
    assert posterior.log_prob(torch.zeros(3, 2), x=X_O).tolist() == [-2.5] * 3


@pytest.mark.parametrize(
    ("prior", "outside"),
    [
        (Independent(Gamma(torch.ones(2), torch.ones(2)), 1, validate_args=True), -1.0),
        (Independent(Uniform(-torch.ones(2), torch.ones(2)), 1, True), 3.0),
        # Without validation torch gives these a finite density below zero.
        (Independent(Gamma(torch.ones(2), torch.ones(2)), 1, False), -1.0),
        (Independent(Exponential(torch.ones(2)), 1, validate_args=False), -1.0),
        (BoxUniform(-torch.ones(2), torch.ones(2)), 3.0),
    ],
)
def test_proposals_outside_the_support_are_rejected(estimator, prior, outside):
    posterior = MHPosterior.from_estimator(estimator, prior)
    draws = posterior.sample((500,), x=X_O, **SHORT)
    assert prior.support.check(draws).all()
    assert torch.isfinite(posterior.log_prob(draws, x=X_O)).all()
    rows = torch.cat((draws[:1], torch.full((1, 2), outside)))
    assert torch.isneginf(posterior.log_prob(rows, x=X_O)).tolist() == [False, True]
