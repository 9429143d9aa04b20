"""`MHPosterior`: shapes, densities, work done, settings."""

import pickle
import threading
from itertools import combinations

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, X_O, draw_pairs, exact_posterior, log_ratio
from sbi.inference.potentials import ratio_estimator_based_potential
from sbi.utils import BoxUniform
from torch import nn
from torch.distributions import Exponential, Gamma, Independent, Uniform

from sbi_aalr import MHPosterior, MHPosteriorParameters, networks
from sbi_aalr.errors import ConvergenceWarning
from sbi_aalr.mcmc import KERNELS
from sbi_aalr.sampling import chunks

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


def test_pickled_posterior_gives_the_same_draws(posterior):
    posterior.set_default_x(X_O)
    expected = posterior.sample((5,), seed=1, **SHORT)
    copy = pickle.loads(pickle.dumps(posterior))
    assert torch.equal(copy.chains.theta, posterior.chains.theta)
    assert torch.equal(copy.sample((5,), seed=1, **SHORT), expected)


def test_any_callable_serves_as_potential():
    def potential(theta, x_o):
        return -(theta - x_o).square().sum(dim=-1) / 2

    with pytest.raises(TypeError, match="`proposal` must be a distribution"):
        MHPosterior(potential)
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
    estimator.embedding_net_x.register_forward_pre_hook(
        lambda *_: evaluated.append(threading.current_thread())
    )
    watched.sample_batched((20,), torch.randn(8, 2), seed=1, **SHORT)
    assert threading.main_thread() not in evaluated
    assert threads == {threading.main_thread()}
