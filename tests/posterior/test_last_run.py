"""What a posterior remembers of its last run, and how it repeats."""

import pickle
import threading
from itertools import combinations

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O

from sbi_aalr import MHPosterior, MHPosteriorParameters
from sbi_aalr.errors import ConvergenceWarning
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.sampling import chunks

# Long enough for moments; R-hat and ESS are asked for where they matter.
LONGER = {**SHORT, "num_chains": 100, "warmup_steps": 100, "thin": 5}


def test_chains_of_the_last_run_are_kept(posterior):
    assert posterior.chains is None
    observations = torch.stack((X_O, -X_O))
    draws = posterior.sample_batched((50,), observations, **SHORT)
    chains, warmup = posterior.chains, posterior.warmup_chains
    assert chains.theta.shape == (10, 5, 2, 2)
    assert warmup.theta.shape == (10, 2, 2, 2)
    for field in (chains.log_prob, chains.acceptance_rate, chains.accepted):
        assert field.shape == (10, 5, 2)
    for index, x in enumerate(observations):
        recomputed = posterior.potential(chains.theta[:, :, index].flatten(0, 1), x=x)
        torch.testing.assert_close(chains.log_prob[:, :, index].flatten(), recomputed)
    assert torch.equal(draws.reshape(5, 10, 2, 2).transpose(0, 1), chains.theta)


def test_seed_makes_draws_repeat(posterior):
    def draw(seed=None):
        return posterior.sample((20,), x=X_O, seed=seed, **SHORT)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(first, draw(seed=3))
    assert not torch.equal(first, draw(seed=4))
    torch.manual_seed(1)
    unseeded = [draw(), draw()]
    assert not torch.equal(*unseeded)
    torch.manual_seed(1)
    assert torch.equal(unseeded[0], draw())


def test_order_of_observations_does_not_matter_for_their_results(posterior):
    observations = torch.tensor([[3.0, 3.0], [0.0, 0.0], [-3.0, 3.0]])
    draws = posterior.sample_batched((2_000,), observations, seed=1, **LONGER)
    flipped = posterior.sample_batched((2_000,), observations.flip(0), seed=1, **LONGER)
    assert (draws.mean(0) - flipped.mean(0).flip(0)).abs().max() < 0.2


def test_memory_limit_does_not_change_shapes(posterior):
    observations = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    draws = posterior.sample_batched((20,), observations, **SHORT, max_batch_size=20)
    assert draws.shape == (20, 5, 2)
    assert posterior.chains.theta.shape == (10, 2, 5, 2)


def test_settings_of_a_call_override_for_that_call_only(estimator):
    parameters = MHPosteriorParameters(num_chains=20, warmup_steps=5)
    posterior = MHPosterior.from_estimator(estimator, PRIOR, num_chains=30)
    assert posterior.parameters.num_chains == 30
    posterior = MHPosterior(posterior.potential_fn, parameters=parameters)
    short = {**SHORT, "num_chains": 7}
    posterior.sample((14,), x=X_O, **short)
    assert posterior.chains.num_chains == 7
    del short["num_chains"]
    posterior.sample((20,), x=X_O, **short)
    assert posterior.chains.num_chains == 20
    assert posterior.parameters is not parameters or parameters.num_chains == 20


def test_every_name_chooses_its_own_kernel(posterior):
    def draw(kernel):
        return posterior.sample((20,), x=X_O, seed=1, **SHORT, kernel=kernel)

    by_name = {name: draw(name) for name in KERNELS}
    for name, kernel in KERNELS.items():
        assert torch.isfinite(by_name[name]).all()
        assert torch.equal(draw(kernel), by_name[name])
    for one, other in combinations(by_name.values(), 2):
        assert not torch.equal(one, other)


def test_pickled_posterior_gives_the_same_draws(posterior):
    posterior.set_default_x(X_O)
    expected = posterior.sample((5,), seed=1, **SHORT)
    copy = pickle.loads(pickle.dumps(posterior))
    assert torch.equal(copy.chains.theta, posterior.chains.theta)
    assert torch.equal(copy.sample((5,), seed=1, **SHORT), expected)


def test_warning_comes_only_where_chains_do_not_converge(posterior):
    # Warnings are errors here.
    posterior.sample((1_000,), x=X_O, seed=1, show_progress_bars=False)
    assert posterior.diagnostics().converged
    with pytest.warns(ConvergenceWarning, match="max_steps|ESS|R-hat") as record:
        posterior.sample(
            (1_000,),
            x=X_O,
            seed=1,
            show_progress_bars=False,
            kernel="random_walk",
            num_chains=4,
            warmup_steps=0,
            thin=1,
            max_steps=250,
        )
    assert record[0].filename == __file__
    assert not posterior.diagnostics().converged


def test_steps_double_until_convergence(posterior):
    posterior.sample(
        (2_000,), x=X_O, seed=1, show_progress_bars=False, num_chains=20, thin=1
    )
    draws = posterior.chains.num_draws
    assert draws >= 100
    assert int(posterior.diagnostics().num_steps) in [draws * 2**n for n in range(8)]


def test_progress_bar_obeys(posterior, capsys):
    quiet = {**SHORT, "show_progress_bars": False}
    posterior.sample((5,), x=X_O, **quiet)
    assert capsys.readouterr() == ("", "")
    posterior.sample((5,), x=X_O, **{**quiet, "show_progress_bars": True})
    out, err = capsys.readouterr()
    assert out == "" and "Sampling 1 observation" in err


def test_run_is_remembered_whole(posterior):
    assert posterior.run is None
    posterior.sample((40,), x=X_O, seed=3, **SHORT)
    run = posterior.run
    assert run.chains is posterior.chains
    assert run.warmup is posterior.warmup_chains
    assert torch.equal(run.observed, X_O[None]) and not run.batched
    assert run.settings["seed"] == 3 and run.settings["kernel"] == "jump_walk"
    assert run.settings["num_chains"] == SHORT["num_chains"]
    posterior.sample((40,), x=X_O, seed=4, **SHORT)
    assert run.settings["seed"] == 3 and posterior.run is not run


def test_threads_draw_from_no_global_generator(posterior, monkeypatch):
    """Chunks of observations run in threads, which would share one generator."""
    monkeypatch.setattr(chunks, "_CHUNK", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    threads = set()

    class Watched(type(PRIOR)):
        def sample(self, *arguments, **options):
            threads.add(threading.current_thread())
            return super().sample(*arguments, **options)

    prior = Watched(PRIOR.loc, PRIOR.covariance_matrix, validate_args=False)
    estimator = posterior.potential_fn.ratio_estimator
    watched = MHPosterior.from_estimator(estimator, prior)
    evaluated = []
    hook = estimator.embedding_net_x.register_forward_pre_hook(
        lambda *_: evaluated.append(threading.current_thread())
    )
    with hook:
        watched.sample_batched((20,), torch.randn(8, 2), seed=1, **SHORT)
    assert threading.main_thread() not in evaluated
    assert threads == {threading.main_thread()}
