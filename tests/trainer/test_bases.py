"""Which side a density is of, and bases that would not be used."""

import pytest
import torch
from sbi.inference import NLE, NPE
from torch.distributions import Cauchy, Independent, MultivariateNormal, Normal

from sbi_aalr import AALR, MHPosterior, RatioLoss
from sbi_aalr.errors import UnsavedBaseWarning
from sbi_aalr.networks import residual_mlp
from sbi_aalr.networks.stack import Stack
from sbi_aalr.trainer.bases import check_base, wrap_base

pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of epochs")
PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))


def simulate(num_rows, seed):
    generator = torch.Generator().manual_seed(seed)
    theta, noise = torch.randn(2, num_rows, 2, generator=generator)
    return theta, theta + noise


@pytest.mark.parametrize(("kind", "side"), [(NPE, "posterior"), (NLE, "likelihood")])
def test_side_is_told_where_theta_and_x_have_one_shape(kind, side):
    """Both readings of this Gaussian tell pairs from others equally well on average."""
    torch.manual_seed(1)
    trainer = kind(PRIOR, density_estimator="mdn", show_progress_bars=False)
    density = trainer.append_simulations(*simulate(1_000, 1)).train(max_num_epochs=20)
    base = check_base(density)
    sides = {wrap_base(base, PRIOR, *simulate(900, seed)).net._side for seed in (2, 3)}
    assert sides == {side}


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"prior": None, "base": "posterior"}, "needs `prior`, .*got 'posterior'"),
        ({"loss": RatioLoss(), "base": "likelihood"}, "`classifier` and `loss`"),
        ({"classifier": "mlp", "base": "posterior"}, "`classifier` and `loss`"),
    ],
)
def test_base_that_would_not_be_used_is_refused(settings, found):
    with pytest.raises(ValueError, match=found):
        AALR(**{"prior": PRIOR, **settings})
    # The default is there for what allows it.
    AALR(**{"prior": PRIOR, **settings, "base": "auto"})


def test_density_that_would_not_be_used_is_refused():
    trainer = NPE(PRIOR, density_estimator="mdn", show_progress_bars=False)
    density = trainer.append_simulations(*simulate(200, 1)).train(max_num_epochs=1)
    with pytest.raises(ValueError, match=r"`base` needs `prior`.*got a density"):
        AALR(base=density)


def test_prior_without_a_mean_has_densities_too():
    prior = Independent(Cauchy(torch.zeros(2), torch.ones(2)), 1)
    torch.manual_seed(1)
    theta = prior.sample((600,))
    x = Normal(theta, 0.5).sample()
    trainer = AALR(prior, show_progress_bars=False).append_simulations(theta, x)
    trainer.train(seed=1, max_num_epochs=3)
    tried = [one["structure"] for one in trainer.summary["recipe"][-1]["structures"]]
    assert "posterior_mixture" in tried and "likelihood_mixture" in tried


def fit_npe():
    torch.manual_seed(1)
    trainer = NPE(PRIOR, density_estimator="mdn", show_progress_bars=False)
    return trainer.append_simulations(*simulate(500, 1)).train(max_num_epochs=5)


def test_posterior_without_its_base_says_so_when_saved_and_when_loaded(tmp_path):
    rows = simulate(500, 1)
    members = [wrap_base(check_base(fit_npe()), PRIOR, *rows), residual_mlp(8)(*rows)]
    posterior = MHPosterior.from_estimator(Stack(members, torch.ones(2)), PRIOR)
    with pytest.warns(UnsavedBaseWarning, match=r"trainer\.save\(folder\)"):
        posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"AALR\.load\(folder, base=\.\.\.\)"):
        MHPosterior.load(tmp_path)


def test_density_of_float64_is_a_base():
    rows = simulate(500, 1)
    density = fit_npe()
    single = wrap_base(check_base(density), PRIOR, *rows)(*rows)
    double = wrap_base(check_base(density.double()), PRIOR, *rows)(*rows)
    assert double.dtype == torch.float32
    assert torch.allclose(single, double, atol=1e-3)
