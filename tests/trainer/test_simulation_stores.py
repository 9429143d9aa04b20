"""Training on stores: as on tensors, in bounded memory, and right after failures."""

import warnings

import pytest
import torch
from linear_gaussian import PRIOR, Quadratic, build_quadratic, draw_pairs
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn
from torch.distributions import Normal

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.errors import (
    CallOrderError,
    InvalidSimulationsWarning,
    OtherPriorWarning,
)
from sbi_aalr.networks import Stack
from sbi_aalr.sampling import ValidPrior
from sbi_aalr.simulation import SimulationStore, fill_store
from sbi_aalr.trainer.begin import correct_densities

QUICK = {"training_batch_size": 100, "max_num_epochs": 2, "seed": 1}


@pytest.fixture
def store(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    theta, _, x = draw_pairs(1_200, 1)
    for part in range(3):
        rows = slice(400 * part, 400 * (part + 1))
        store.append(theta[rows], x[rows])
    return store


def make_trainer(classifier=build_quadratic):
    return AALR(PRIOR, classifier, show_progress_bars=False)


def train(trainer, **settings):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Maximum number of epochs")
        return trainer.train(**{**QUICK, **settings}).state_dict()


def test_store_gives_the_weights_that_tensors_give(store):
    theta, x = store[:]
    stored = train(make_trainer().append_simulations(store))
    expected = train(make_trainer().append_simulations(theta, x))
    assert all(map(torch.equal, stored.values(), expected.values()))
    both = make_trainer().append_simulations(theta[:300], x[:300])
    both.append_simulations(store)
    expected = make_trainer().append_simulations(theta[:300], x[:300])
    expected.append_simulations(theta, x)
    weights = train(both), train(expected)
    assert all(map(torch.equal, weights[0].values(), weights[1].values()))


def test_what_does_not_fit_memory_is_trained_on_block_by_block(store, monkeypatch):
    monkeypatch.setattr("sbi_aalr.training.store_loader.MEMORY_BYTES", 2_000)
    monkeypatch.setattr("sbi_aalr.trainer.simulations.MEMORY_BYTES", 2_000)
    monkeypatch.setattr("sbi_aalr.trainer.simulations._SCALING_BYTES", 2_000)
    monkeypatch.setattr("sbi_aalr.simulation.stored_rows._BLOCK_BYTES", 8 * 20)
    trainer = make_trainer().append_simulations(store)
    train(trainer, learning_rate=0.03, max_num_epochs=12)
    assert trainer.summary["validation_loss"][-1] < 0.67
    blocks = trainer.train_indices // 20, trainer.val_indices // 20
    assert len(set(blocks[0].tolist()) & set(blocks[1].tolist())) <= 1
    rows = torch.cat((trainer.train_indices, trainer.val_indices))
    assert torch.equal(rows.sort().values, torch.arange(1_200))


def test_what_is_added_to_the_store_meanwhile_does_not_count(store):
    expected = train(make_trainer().append_simulations(*store[:]))
    trainer = make_trainer().append_simulations(store)
    store.append(*store[:100])
    assert all(map(torch.equal, train(trainer).values(), expected.values()))


def test_wrong_stores_are_refused(store, tmp_path):
    empty = SimulationStore(tmp_path / "empty")
    with pytest.raises(CallOrderError, match="holds no simulations yet"):
        make_trainer().append_simulations(empty)
    with pytest.raises(ValueError, match="`x` must be left out with a store"):
        make_trainer().append_simulations(store, torch.zeros(1_200, 2))
    with pytest.raises(TypeError, match="`x` must be a torch tensor"):
        make_trainer().append_simulations(store[:][0])
    empty.append(torch.zeros(3, 2), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"`x` must have rows of shape \(2,\)"):
        make_trainer().append_simulations(store).append_simulations(empty)
    with pytest.raises(ValueError, match="`dataloader_kwargs` must be left out"):
        train(make_trainer().append_simulations(store), dataloader_kwargs={})


NOISE, X_O = 0.5, torch.tensor([0.6, -0.4])


def fail_where_large(theta):
    """The log-odds of success are 1 - 3 theta_1."""
    x = theta + NOISE * torch.randn_like(theta)
    fails = torch.rand(len(theta)) > (1 - 3 * theta[:, 0]).sigmoid()
    return torch.where(fails[:, None], torch.nan, x)


def exact_mean():
    grid = torch.linspace(-6, 6, 20_001)
    log_density = Normal(0.0, 1.0).log_prob(grid) + Normal(grid, NOISE).log_prob(X_O[0])
    density = (log_density + nn.functional.logsigmoid(1 - 3 * grid)).exp()
    return float((grid * density).sum() / density.sum())


def build_rich(theta, x):
    """Terms quadratic in both, and any function of the first datum."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quadratic = nn.Sequential(Quadratic(), nn.Linear(25, 1))
            self.free = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 1))

        def forward(self, rows):
            return self.quadratic(rows) + self.free(rows[:, 2:3])

    return RatioEstimator(Net(), theta.shape[1:], x.shape[1:])


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_recipe")
def test_posterior_is_corrected_for_rows_that_are_left_out():
    torch.manual_seed(1)
    theta = PRIOR.sample((4_000,))
    x = fail_where_large(theta)
    trainer = AALR(PRIOR, base="posterior", show_progress_bars=False)
    with pytest.warns(InvalidSimulationsWarning, match="`build_posterior` corrects"):
        trainer.append_simulations(theta, x, exclude_invalid_x=True)
    with warnings.catch_warnings():
        # Those that are left do not follow the prior, but all together do.
        warnings.simplefilter("error", OtherPriorWarning)
        train(trainer, max_num_epochs=8)
    posterior = trainer.build_posterior()
    assert isinstance(posterior.proposal, ValidPrior)
    draws = posterior.sample((2_000,), X_O, seed=1, show_progress_bars=False)
    assert float(draws[:, 0].mean()) == pytest.approx(exact_mean(), abs=0.08)


def test_posterior_is_corrected_for_what_failed_and_stays_so_on_disk(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    with pytest.warns(InvalidSimulationsWarning, match="set aside"):
        fill_store(
            store,
            fail_where_large,
            PRIOR,
            20_000,
            batch_size=2_000,
            seed=1,
            on_error="skip",
        )
    assert 0.5 < len(store) / 20_000 < 0.7
    trainer = make_trainer(build_rich).append_simulations(store)
    train(trainer, learning_rate=0.02, max_num_epochs=15)
    posterior = trainer.build_posterior()
    assert isinstance(posterior.proposal, ValidPrior)
    posterior.save(tmp_path / "run")
    loaded = MHPosterior.load(tmp_path / "run", classifier=build_rich)
    settings = {"x": X_O, "seed": 1, "show_progress_bars": False}
    draws = posterior.sample((2_000,), **settings)
    assert torch.equal(loaded.sample((2_000,), **settings), draws)
    assert float(draws[:, 0].mean()) == pytest.approx(exact_mean(), abs=0.06)
    # Without the correction it is that of a simulator that never fails.
    estimator = posterior.potential_fn.ratio_estimator
    wrong = MHPosterior.from_estimator(estimator, PRIOR).sample((2_000,), **settings)
    assert float(wrong[:, 0].mean()) > exact_mean() + 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_recipe")
def test_stack_is_corrected_for_what_failed_once_and_not_twice(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    with pytest.warns(InvalidSimulationsWarning, match="set aside"):
        fill_store(store, fail_where_large, PRIOR, 4_000, seed=1, on_error="skip")
    trainer = AALR(PRIOR, base="posterior", show_progress_bars=False)
    trainer.append_simulations(store).train(seed=1, stop_after_epochs=2)
    assert isinstance(trainer._neural_net, Stack)
    means = []
    trainer.save(tmp_path / "trainer")
    loaded = AALR.load(tmp_path / "trainer", show_progress_bars=False)
    for one in (trainer, loaded):
        posterior = one.build_posterior()
        settings = {"x": X_O, "seed": 1, "show_progress_bars": False}
        draws = posterior.sample((2_000,), **settings)
        means.append(float(draws[:, 0].mean()))
    assert means[0] == means[1] == pytest.approx(exact_mean(), abs=0.06)
    # The control: densities that were divided by the prior alone are corrected twice.
    trainer._validity, validity = None, trainer._validity
    correct_densities(trainer)
    trainer._validity = validity
    draws = trainer.build_posterior().sample((2_000,), **settings)
    assert float(draws[:, 0].mean()) < exact_mean() - 0.1
