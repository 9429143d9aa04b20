"""NumPy's numbers, and other real ones, are as good as Python's."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from bad_inputs import make_stored, make_trainer
from linear_gaussian import PRIOR, SHORT, X_O, simulate

from sbi_aalr import MHPosteriorParameters, RatioLoss
from sbi_aalr.sampling.plan import make_plan
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.simulation import SimulationStore, fill_store

pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of epochs")


def read_weights(estimator):
    return torch.cat([weight.detach().flatten() for weight in estimator.parameters()])


def test_settings_of_numpy_sample_like_those_of_python(posterior):
    plain = {"num_chains": 10, "thin": 2, "warmup_steps": 20, "max_rhat": 1.5}
    others = {
        "num_chains": np.int32(10),
        "thin": np.int64(2),
        "warmup_steps": np.uint8(20),
        "max_rhat": Fraction(3, 2),
    }
    draws = [
        posterior.sample(shape, x=X_O, seed=seed, **{**SHORT, **settings})
        for shape, seed, settings in (
            ((20,), 1, plain),
            ((np.int16(20),), np.int8(1), others),
        )
    ]
    assert torch.equal(*draws)
    json.dumps(MHPosteriorParameters(**others).to_dict())


def test_training_with_numbers_of_numpy_is_that_with_those_of_python(tmp_path):
    plain = {"training_batch_size": 10, "max_num_epochs": 2, "learning_rate": 0.5}
    others = {
        "training_batch_size": np.int32(10),
        "max_num_epochs": np.int64(2),
        "learning_rate": np.float32(0.5),
    }
    first = make_stored().train(seed=1, **plain)
    second = make_stored().train(seed=np.int64(1), checkpoint=tmp_path, **others)
    assert torch.equal(read_weights(first), read_weights(second))
    online = {"batch_size": np.int32(50), "num_passes": np.int32(2)}
    trainer = make_trainer(loss=RatioLoss(num_contrasts=np.int32(1)))
    trainer.train_online(simulate, np.int32(200), seed=1, **online)
    assert trainer.build_posterior() is not None


def test_stores_and_files_take_seeds_of_numpy(tmp_path, posterior):
    store = SimulationStore(tmp_path / "store")
    settings = {"seed": np.int64(1), "batch_size": np.int32(5)}
    fill_store(store, simulate, PRIOR, np.int32(10), **settings)
    assert len(store) == 10
    out = tmp_path / "run.nc"
    draws = posterior.sample_batched(
        (np.int32(3),), X_O[None], seed=np.int64(1), out=out, **SHORT
    )
    again = posterior.sample_batched((3,), X_O[None], seed=1, **SHORT)
    assert out.is_file() and torch.equal(draws, again)


def test_limit_of_steps_holds_however_many_effective_draws_are_asked_for():
    settings = Settings(min_ess=1e9, max_steps=2_000, num_chains=10)
    plan = make_plan(settings, num_samples=5, num_observations=1, ratio_dim=2)
    assert plan.num_draws * plan.thin == 2_000
    # The draws asked for are made in any case.
    plan = make_plan(settings, num_samples=5_000, num_observations=1, ratio_dim=2)
    assert plan.num_draws == 500
