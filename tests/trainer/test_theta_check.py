"""Parameters that come from elsewhere than the prior, and the posterior for it."""

import warnings

import pytest
import torch
from sbi.utils import BoxUniform
from torch.distributions import (
    Cauchy,
    Exponential,
    Independent,
    MultivariateNormal,
    Normal,
)

from sbi_aalr import AALR
from sbi_aalr.errors import OtherPriorWarning
from sbi_aalr.trainer import structures
from sbi_aalr.trainer.theta_check import follows_prior

pytestmark = [
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
    pytest.mark.usefixtures("hasty_recipe"),
]
ONES = torch.ones(2)
CORRELATED = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
PRIORS = {
    "box": BoxUniform(-ONES, ONES),
    "normal": Independent(Normal(0 * ONES, ONES), 1),
    "correlated": CORRELATED,
    "positive": Independent(Exponential(ONES), 1),
    "heavy": Independent(Cauchy(0 * ONES, 1e6 * ONES), 1),
}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("num_rows", [20, 1_000, 50_000])
def test_draws_of_a_prior_follow_it(name, num_rows):
    torch.manual_seed(1)
    theta = PRIORS[name].sample((num_rows,))
    state = torch.get_rng_state()
    assert follows_prior(theta, PRIORS[name])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("box", BoxUniform(-ONES, 0.8 * ONES)),
        ("normal", Independent(Normal(0 * ONES, 0.8 * ONES), 1)),
        ("normal", Independent(Normal(torch.tensor([0.0, 0.2]), ONES), 1)),
        # Every parameter by itself is as it should be.
        ("normal", CORRELATED),
        ("heavy", Independent(Cauchy(0 * ONES, 2e6 * ONES), 1)),
    ],
)
def test_draws_of_another_do_not(name, other):
    torch.manual_seed(1)
    assert not follows_prior(other.sample((2_000,)), PRIORS[name])


def train(theta, x, prior, **settings):
    trainer = AALR(prior, show_progress_bars=False)
    trainer.append_simulations(theta, x, **settings).train(seed=1, max_num_epochs=12)
    return trainer


def collect_weights(trainer, name):
    tried = trainer.summary["recipe"][-1]["structures"]
    return [one["weight"] for one in tried if one["structure"] == name]


PRIOR = BoxUniform(-4 * torch.ones(1), 4 * torch.ones(1))


def draw_proposed(num_numbers):
    """Parameters near zero, and the mean of their data is theta with unit variance."""
    torch.manual_seed(1)
    theta = 0.7 * torch.randn(1_500, 1)
    scale = num_numbers**0.5
    return theta, theta + scale * torch.randn(1_500, num_numbers)


def test_posterior_is_that_of_the_prior_and_not_of_the_proposal():
    theta, x = draw_proposed(1)
    with pytest.warns(OtherPriorWarning, match="does not follow the prior"):
        trainer = train(theta, x, PRIOR)
    # One may be kept for what it leaves, without a say.
    assert max(collect_weights(trainer, "posterior_mixture")) < 1e-5
    assert max(collect_weights(trainer, "likelihood_mixture")) > 0.5
    posterior = trainer.build_posterior()
    draws = posterior.sample(
        (2_000,), torch.ones(1, 1), seed=1, show_progress_bars=False
    )
    assert float(draws.mean()) == pytest.approx(1, abs=0.25)
    assert float(draws.std()) == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_posterior_of_the_proposal_is_what_one_gets_otherwise(monkeypatch):
    """The control: a density of theta is taken for one under the prior."""
    monkeypatch.setattr("sbi_aalr.trainer.theta_check.follows_prior", lambda *_: True)
    theta, x = draw_proposed(40)
    trainer = train(theta, x, PRIOR)
    posterior = trainer.build_posterior()
    x_o = torch.ones(1, 40)
    draws = posterior.sample((2_000,), x_o, seed=1, show_progress_bars=False)
    assert float(draws.mean()) < 0.6 and float(draws.std()) < 0.75


def test_rounds_say_so_themselves_and_need_no_warning():
    theta, x = draw_proposed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherPriorWarning)
        trainer = AALR(PRIOR, show_progress_bars=False)
        trainer.append_simulations(theta, x, from_round=1)
        trainer.train(seed=1, max_num_epochs=2)
    # One may be kept for what it leaves, without a say.
    assert max(collect_weights(trainer, "posterior_mixture")) < 1e-5


@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.OtherPriorWarning")
@pytest.mark.parametrize("is_interrupted", [True, False])
def test_without_towers_there_is_nothing_of_use(is_interrupted, monkeypatch):
    """Densities of theta alone would give the posterior under another prior."""
    choose = structures.choose_fit

    def choose_or_end(trainer, structure, *others):
        if structure.member is None:
            raise KeyboardInterrupt
        return choose(trainer, structure, *others)

    monkeypatch.setattr(structures, "choose_fit", choose_or_end)
    if not is_interrupted:
        monkeypatch.setattr(structures.History, "raise_interruption", lambda _: None)
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.append_simulations(*draw_proposed(40))
    error = KeyboardInterrupt if is_interrupted else ValueError
    with pytest.raises(error, match=None if is_interrupted else "train the towers"):
        trainer.train(seed=1, max_num_epochs=2)
    assert trainer._neural_net is None and "recipe" not in trainer.summary
