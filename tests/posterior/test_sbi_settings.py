"""Settings of sbi's sampler mean what they can, and the rest is told once."""

import warnings
from dataclasses import asdict

import pytest
import torch
from linear_gaussian import PRIOR, X_O, simulate
from sbi.inference.posteriors import EnsemblePosterior
from sbi.inference.posteriors.posterior_parameters import MCMCPosteriorParameters

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.errors import UnusedSettingsWarning

SOME = MCMCPosteriorParameters(num_chains=20, thin=2, warmup_steps=50)
QUIET = {"show_progress_bars": False}


@pytest.fixture(scope="module")
def trainer():
    trainer = AALR(PRIOR, "mlp", **QUIET)
    trainer.train_online(simulate, num_simulations=2_000, seed=1)
    return trainer


@pytest.fixture
def posterior(trainer):
    return trainer.build_posterior().set_default_x(X_O)


def test_settings_of_both_samplers_mean_the_same(posterior):
    ours = {"num_chains": 20, "thin": 3, "warmup_steps": 50, "max_rhat": None}
    theirs = {
        **{"method": "hmc_pyro", "init_strategy": "sir", "num_workers": 1},
        "init_strategy_parameters": {"num_candidate_samples": 500},
        **{"mp_context": "spawn", "target_accept": None},
    }
    draws = posterior.sample((40,), seed=1, min_ess=None, **ours, **theirs, **QUIET)
    settings = posterior.run.settings
    assert settings["kernel"] == "hmc"
    assert settings["num_candidates"] == 500
    assert settings["init_strategy"] == "resample"
    assert {name: settings[name] for name in ours} == ours
    same = {"kernel": "hmc", "num_candidates": 500, "min_ess": None}
    again = posterior.sample((40,), seed=1, **ours, **same, **QUIET)
    assert torch.equal(draws, again)


def test_the_rest_is_told_in_one_warning_at_the_line_that_asked(posterior):
    unused = {"num_workers": 4, "target_accept": 0.9, "mp_context": "fork"}
    with pytest.warns(UnusedSettingsWarning, match="`method='slice_np'`") as caught:
        posterior.sample((40,), seed=1, method="slice_np", **unused, **QUIET)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert caught[0].message.value == 4
    assert all(name in str(caught[0].message) for name in unused)


def test_defaults_of_sbi_beside_the_method_are_not_told(posterior):
    with pytest.warns(UnusedSettingsWarning) as caught:
        posterior.sample((40,), **asdict(SOME), **QUIET)
    assert caught[0].message.value == 1
    assert posterior.run.settings["num_chains"] == 20
    assert posterior.run.settings["thin"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior.sample((40,), thin=-1, method=None, **QUIET)
    assert posterior.run.settings["thin"] == 10


def test_build_posterior_takes_settings_as_nre_a_does(trainer):
    mcmc = {"num_chains": 12, "warmup_steps": 30}
    posterior = trainer.build_posterior(mcmc_method="hmc_pyro", mcmc_parameters=mcmc)
    assert isinstance(posterior, MHPosterior)
    assert posterior.parameters.kernel == "hmc"
    assert posterior.parameters.num_chains == 12
    assert posterior.parameters.warmup_steps == 30
    with pytest.warns(UnusedSettingsWarning, match="slice_np_vec.*sample_with") as told:
        trainer.build_posterior(
            mcmc_method="slice_np_vectorized", vi_method="rKL", vi_parameters=None
        )
    assert len(told) == 1 and told[0].filename == __file__
    with pytest.warns(UnusedSettingsWarning, match="`vi_method='fKL'`"):
        trainer.build_posterior(vi_method="fKL")


def test_posterior_is_built_from_settings_of_sbi(posterior):
    parts = posterior.potential_fn, PRIOR
    with pytest.warns(UnusedSettingsWarning) as caught:
        built = MHPosterior(*parts, **asdict(SOME))
    assert caught[0].filename == __file__
    assert built.parameters.num_chains == 20


def test_ensemble_of_sbi_hands_settings_on(posterior):
    ensemble = EnsemblePosterior([posterior, posterior]).set_default_x(X_O)
    with pytest.warns(UnusedSettingsWarning, match="slice_np_vectorized"):
        draws = ensemble.sample((30,), **asdict(SOME), **QUIET)
    assert draws.shape == (30, 2)
    assert ensemble.log_prob(draws).isfinite().all()
    best = ensemble.map(init_method=draws, num_iter=20, show_progress_bars=False)
    assert best.shape == (1, 2)


@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.ConvergenceWarning")
def test_few_chains_as_sbi_takes_them_are_taken(posterior):
    fast = MCMCPosteriorParameters(num_chains=1, thin=1, warmup_steps=1)
    with pytest.warns(UnusedSettingsWarning):
        draws = posterior.sample((12,), **asdict(fast), max_steps=20, **QUIET)
    assert draws.shape == (12, 2)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "gibbs"}, ValueError, "`method` must be one of"),
        ({"init_strategy_parameters": 3}, TypeError, "must be a dict or None, got int"),
        ({"num_workers": 0}, ValueError, "`num_workers` must be a positive int"),
        ({"num_chain": 3}, ValueError, "num_chain"),
    ],
)
def test_settings_of_neither_sampler_are_named(posterior, settings, error, message):
    with pytest.raises(error, match=message):
        posterior.sample((10,), **settings, **QUIET)
