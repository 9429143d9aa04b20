"""Data near 1e6 ± 0.1 keep their digits from the simulator to the posterior."""

import pytest
import torch
from linear_gaussian import Quadratic, build_quadratic
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.utils import BoxUniform
from torch import nn

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.checks import check_simulations, keep_digits
from sbi_aalr.errors import PrecisionWarning
from sbi_aalr.networks import Scale, Stack, average_log_ratios, two_towers
from sbi_aalr.networks.digits import find_scales
from sbi_aalr.networks.stack import Offset
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulation.guarded import GuardedSimulator

PRIOR = BoxUniform(-torch.ones(1), torch.ones(1))
CENTRE, UNIT, NOISE = 1e6, 0.05, 0.3
X_O = torch.tensor([CENTRE + 0.4 * UNIT], dtype=torch.float64)
QUIET = {"seed": 1, "show_progress_bars": False}


def draw(theta):
    """Steps of float32 are as large here as the whole range of theta."""
    theta = theta.double()
    return CENTRE + UNIT * (theta + NOISE * torch.randn_like(theta))


simulate = draw


def build_scaled(theta, x):
    """A network that can represent the ratio of a Gaussian, and centres its data."""
    return RatioEstimator(
        nn.Sequential(Quadratic(), nn.Linear(9, 1)),
        theta.shape[1:],
        x.shape[1:],
        embedding_net_x=Scale(x),
    )


def draw_stored(seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theta = PRIOR.sample((20_000,))
        return theta, simulate(theta)


def fit_online(trainer):
    trainer.train_online(
        simulate, 60_000, batch_size=300, learning_rate=0.03, num_passes=1, seed=1
    )


def fit_stored(trainer):
    trainer.append_simulations(*draw_stored())
    trainer.train(training_batch_size=200, learning_rate=0.03, max_num_epochs=8, seed=1)


FITS = {"online": fit_online, "stored": fit_stored}


def centre(x):
    """The same data as a user would have to pass them otherwise."""
    return ((x - CENTRE) / UNIT).float()


@pytest.mark.filterwarnings("ignore:Maximum number of epochs")
@pytest.mark.parametrize("way", FITS)
def test_posterior_is_that_of_centred_data(way, tmp_path, monkeypatch):
    trainer = AALR(PRIOR, build_scaled, show_progress_bars=False)
    FITS[way](trainer)
    posterior = trainer.build_posterior().set_default_x(X_O)
    draws = posterior.sample((2_000,), **QUIET)
    posterior.save(tmp_path / "run")
    loaded = MHPosterior.load(tmp_path / "run", classifier=build_scaled)
    assert torch.equal(loaded.sample((2_000,), **QUIET), draws)

    monkeypatch.setitem(globals(), "simulate", lambda theta: centre(draw(theta)))
    centred = AALR(PRIOR, build_scaled, show_progress_bars=False)
    FITS[way](centred)
    expected = centred.build_posterior().sample((2_000,), x=centre(X_O), **QUIET)
    assert float((draws.mean() - expected.mean()).abs()) < 0.02
    assert float(draws.std() / expected.std()) == pytest.approx(1, abs=0.05)

    # Rounded to float32, they are another posterior, and that is told.
    monkeypatch.setitem(globals(), "simulate", lambda theta: draw(theta).float())
    rounded = AALR(PRIOR, build_scaled, show_progress_bars=False)
    FITS[way](rounded)
    coarse = rounded.build_posterior().sample((2_000,), x=X_O.float(), **QUIET)
    assert float(coarse.std() / expected.std()) > 1.15


@pytest.mark.parametrize("classifier", [build_quadratic, "linear"])
def test_network_without_a_scale_is_given_float32(classifier):
    trainer = AALR(PRIOR, classifier, show_progress_bars=False)
    trainer.append_simulations(*(rows[:300] for rows in draw_stored()))
    assert trainer.get_simulations()[1].dtype == torch.float64
    with pytest.warns(UserWarning, match="Maximum number of epochs"):
        trainer.train(max_num_epochs=1, seed=1)
    posterior = trainer.build_posterior()
    assert posterior.potential(torch.zeros(1, 1), x=X_O).isfinite().all()


@pytest.mark.filterwarnings("ignore:Maximum number of epochs")
def test_float32_that_is_too_coarse_is_told():
    trainer = AALR(PRIOR, "selu_mlp", show_progress_bars=False)
    theta, x = draw_stored()
    trainer.append_simulations(theta[:300], x[:300].float())
    with pytest.warns(PrecisionWarning, match="`x` has only . different values"):
        trainer.train(max_num_epochs=1, seed=1)


def test_digits_are_kept_only_where_they_count():
    noise = torch.randn(50, 2, dtype=torch.float64)
    near, far = noise, 1e6 + noise
    for rows, kind in ((near, torch.float32), (far, torch.float64)):
        assert keep_digits(rows).dtype == kind
        assert GuardedSimulator(lambda theta, rows=rows: rows)(noise).dtype == kind
        theta, x = check_simulations(noise, rows)
        assert x.dtype == kind and theta.dtype == torch.float32
    assert keep_digits(far.float()).dtype == torch.float32
    # Constants, single rows and counts lose nothing.
    assert keep_digits(torch.full((9, 1), 1e6, dtype=torch.float64)).dtype == (
        torch.float32
    )
    assert keep_digits(far[:1]).dtype == torch.float32
    assert keep_digits(torch.arange(30)[:, None]).dtype == torch.float32
    assert keep_digits(2**40 + torch.arange(30)[:, None]).dtype == torch.float64


def test_rows_given_one_by_one_keep_their_digits(tmp_path):
    theta, x = (rows[:9] for rows in draw_stored())
    trainer = AALR(PRIOR, show_progress_bars=False)
    store = SimulationStore(tmp_path / "sims.zarr")
    for row in range(9):
        one = theta[row : row + 1], x[row : row + 1]
        trainer.append_simulations(*one)
        store.append(*one)
    assert torch.equal(trainer.get_simulations()[1], x)
    assert torch.equal(store[:][1], x)


def test_single_row_changes_nothing_where_digits_mean_nothing(tmp_path):
    theta, x = PRIOR.sample((99,)), torch.randn(99, 1, dtype=torch.float64)
    trainer = AALR(PRIOR, show_progress_bars=False)
    store = SimulationStore(tmp_path / "sims.zarr")
    for rows in (slice(98), slice(98, 99)):
        trainer.append_simulations(theta[rows], x[rows])
        store.append(theta[rows], x[rows])
    for found in (trainer.get_simulations()[1], store[:][1]):
        assert torch.equal(found, x.float())


@pytest.mark.usefixtures("hasty_stack")
@pytest.mark.filterwarnings("ignore:Maximum number of epochs")
@pytest.mark.parametrize("base", ["auto", "posterior", "likelihood"])
def test_posterior_of_every_structure_sees_the_digits(base):
    """Rounded for the posterior alone, these data had one posterior for all."""
    theta, x = (rows[:600] for rows in draw_stored())
    trainer = AALR(PRIOR, base=base, show_progress_bars=False)
    trainer.append_simulations(theta, x).train(seed=1, max_num_epochs=2)
    stack = trainer._neural_net
    members = [one.estimator for one in trainer._structures]
    for offset in (None, Offset(x)):
        whole = Stack(members, torch.ones(len(members)), offset=offset)
        for estimator in (stack, whole, *members):
            posterior = MHPosterior.from_estimator(estimator, PRIOR)
            with torch.no_grad():
                expected = estimator(theta[:50], x[:50])
                rounded = estimator(theta[:50], x[:50].float())
            found = [
                posterior.potential(one[None], x=x_o)
                for one, x_o in zip(theta[:50], x[:50], strict=True)
            ]
            log_prior = PRIOR.log_prob(theta[:50])
            torch.testing.assert_close(torch.cat(found), expected + log_prior)
            assert (expected - rounded).abs().max() > 0.1


@pytest.mark.usefixtures("hasty_recipe")
@pytest.mark.filterwarnings("error::sbi_aalr.errors.PrecisionWarning")
def test_observation_of_rounds_keeps_the_digits_of_a_list():
    trainer = AALR(PRIOR, base="posterior", show_progress_bars=False)
    settings = {"num_rounds": 2, "epsilon": 0.01, "time_limit": 4, "seed": 1}
    trainer.train_truncated(simulate, X_O.tolist(), 400, **settings)
    with pytest.raises(PrecisionWarning, match="Give `x` as float64"):
        trainer.train_truncated(simulate, X_O.float(), 400, **settings)


def test_net_that_begins_otherwise_is_given_float32():
    theta, x = (rows[:300] for rows in draw_stored())
    members = [two_towers(8, 1)(theta, x), build_quadratic(theta, x.float())]
    for estimator in members:
        ensemble = average_log_ratios([members[0], estimator])
        assert len(find_scales(ensemble.embedding_net_x)) == 2 * (
            estimator is members[0]
        )
