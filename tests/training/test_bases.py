"""Which side a density is of, and bases that would not be used."""

from copy import deepcopy

import pytest
import torch
from sbi.inference import MNLE, NLE, NPE
from torch import nn
from torch.distributions import Cauchy, Independent, MultivariateNormal, Normal

from sbi_aalr import AALR, MHPosterior, RatioLoss
from sbi_aalr.networks import residual_mlp
from sbi_aalr.networks.given_density import GIVEN_DENSITY as GIVEN
from sbi_aalr.networks.stack import Stack
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.training.bases import check_base, wrap_base
from sbi_aalr.training.classifiers import NamedBuilder

pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of epochs")
PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))
LOG_PRIOR = LogPrior(PRIOR)


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
    sides = {
        wrap_base(base, LOG_PRIOR, *simulate(900, seed)).net._side for seed in (2, 3)
    }
    assert sides == {side}


@pytest.mark.filterwarnings("ignore:The mixed neural density", "ignore:Inferring num")
def test_density_of_discrete_data_is_a_likelihood():
    """Parameters given to it as data would be categories that it has never seen."""
    torch.manual_seed(1)
    theta, x = simulate(300, 1)
    x[:, 1] = (x[:, 1] > 0).float()
    trainer = MNLE(PRIOR, show_progress_bars=False)
    density = trainer.append_simulations(theta, x).train(max_num_epochs=2)
    wrapped = wrap_base(check_base(density), LOG_PRIOR, theta, x)
    assert wrapped.net._side == "likelihood"
    x = x[:1].expand(300, 2)
    log_prob = density.log_prob(x.unsqueeze(0), condition=theta)[0]
    offset = wrapped(theta, x) - log_prob
    assert log_prob.std() > 0.1 and offset.std() < 1e-4


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


@pytest.mark.usefixtures("hasty_recipe")
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


def stack(density, classifier=None):
    """A posterior with a density of sbi's and a network, which must have a name."""
    rows = simulate(500, 1)
    network = (classifier or NamedBuilder("selu_mlp"))(*rows)
    members = [wrap_base(check_base(density), LOG_PRIOR, *rows), network]
    return MHPosterior.from_estimator(Stack(members, torch.ones(2)), PRIOR)


def assert_same(loaded, posterior):
    found, expected = (p.potential_fn.ratio_estimator for p in (loaded, posterior))
    rows = simulate(50, 5)
    assert torch.equal(found(*rows), expected(*rows))


def test_posterior_is_loaded_with_its_base(tmp_path):
    density = fit_npe()
    posterior = stack(density)
    posterior.save(tmp_path)
    for seed in range(4):
        # With neither random numbers nor weights does it depend on the copy.
        torch.manual_seed(seed)
        other = deepcopy(density)
        for weight in other.parameters():
            torch.nn.init.normal_(weight)
        assert_same(MHPosterior.load(tmp_path, base=other), posterior)
    with pytest.raises(
        ValueError, match=r"a base that JSON .*load\(folder, base=\.\.\.\)"
    ):
        MHPosterior.load(tmp_path)
    with pytest.raises(TypeError, match="`base` must be the estimator or posterior"):
        MHPosterior.load(tmp_path, base="auto")
    with pytest.raises(ValueError, match="`embedding_net_x` must be left out"):
        MHPosterior.load(tmp_path, base=density, embedding_net_x=nn.Identity())


def test_network_without_a_name_beside_a_base_is_built_whole(tmp_path):
    density = fit_npe()
    posterior = stack(density, residual_mlp(8))
    posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"load\(folder, classifier=\.\.\.\)"):
        MHPosterior.load(tmp_path, base=density)

    def rebuild(theta, x):
        return stack(density, residual_mlp(8)).potential_fn.ratio_estimator

    loaded = MHPosterior.load(tmp_path, classifier=rebuild)
    assert_same(loaded, posterior)


@pytest.mark.usefixtures("hasty_recipe")
@pytest.mark.parametrize(("kind", "side"), [(NPE, "posterior"), (NLE, "likelihood")])
def test_side_stays_when_a_trainer_is_loaded(kind, side, tmp_path):
    """There were no simulations left to tell it by, and one in four came out wrong."""
    torch.manual_seed(1)
    fit = kind(PRIOR, density_estimator="mdn", show_progress_bars=False)
    density = fit.append_simulations(*simulate(1_000, 1)).train(max_num_epochs=20)
    trainer = AALR(PRIOR, base=density, show_progress_bars=False)
    trainer.append_simulations(*simulate(300, 2)).train(seed=1, max_num_epochs=1)
    trainer.save(tmp_path)
    for seed in range(6):
        torch.manual_seed(seed)
        loaded = AALR.load(tmp_path, base=density, show_progress_bars=False)
        assert find_side(loaded) == find_side(trainer) == side


def find_side(trainer):
    return next(s.estimator.net._side for s in trainer._structures if s.name == GIVEN)


@pytest.mark.usefixtures("hasty_recipe")
def test_truncated_rounds_with_a_base_come_back_the_same(tmp_path):
    density = fit_npe()
    x_o = torch.tensor([0.5, -0.5])

    def simulator(theta):
        return theta + torch.randn(theta.shape)

    trainer = AALR(PRIOR, base=density, show_progress_bars=False)
    trainer.train_truncated(
        simulator, x_o, 600, num_rounds=2, epsilon=0.01, time_limit=3, seed=1
    )
    trainer.save(tmp_path / "trainer")
    again = AALR.load(tmp_path / "trainer", base=density, show_progress_bars=False)
    posterior = trainer.build_posterior()
    assert_same(again.build_posterior(), posterior)
    posterior.save(tmp_path / "posterior")
    loaded = MHPosterior.load(tmp_path / "posterior", base=density)
    assert_same(loaded, posterior)
    rows, _ = simulate(200, 3)
    kept = [p.potential_fn.prior.keeps(rows) for p in (loaded, posterior)]
    assert torch.equal(*kept) and not kept[0].all()


def test_side_that_nothing_tells_is_asked_for():
    density = check_base(fit_npe())
    with pytest.raises(ValueError, match=r"`base` must be a posterior, such as"):
        wrap_base(density, LOG_PRIOR, *simulate(8, 1))
    assert wrap_base(density, LOG_PRIOR, *simulate(8, 1), "likelihood") is not None


def test_density_of_float64_is_a_base():
    rows = simulate(500, 1)
    density = fit_npe()
    single = wrap_base(check_base(density), LOG_PRIOR, *rows)(*rows)
    double = wrap_base(check_base(density.double()), LOG_PRIOR, *rows)(*rows)
    assert double.dtype == torch.float32
    assert torch.allclose(single, double, atol=1e-3)


def test_data_of_float64_are_taken_as_the_density_takes_them():
    theta, x = simulate(500, 1)
    density = wrap_base(check_base(fit_npe()), LOG_PRIOR, theta, x)
    assert torch.allclose(density(theta, x), density(theta, x.double()).float())
