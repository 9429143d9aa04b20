"""What kernels learn between rounds of draws, and that draws stay exact."""

import pytest
import torch
from helpers import LIMIT, make_generator, moments
from test_until_converged import (
    make_easy_and_hard,
    propose_at_different_scales,
    run_sampler,
)

from sbi_aalr.mcmc import KERNELS, from_proposal, mixture_fit
from sbi_aalr.mcmc.kernel import Kernel, Proposal
from sbi_aalr.mcmc.student_mixture import log_density


def test_kernel_learns_from_rounds_that_did_not_converge():
    seen = []

    def learn(generator, parameters, draws):
        seen.append(draws.clone())
        return parameters

    kernel = from_proposal(propose_at_different_scales)._replace(relearn=learn)
    result = run_sampler(make_easy_and_hard(), kernel=kernel, warmup_steps=0)
    rounds = result.convergence.num_steps // 100
    assert len(seen) == rounds.max().log2() > 1
    # From the draws of a round, and of those observations alone that go on.
    assert [draws.shape[2] for draws in seen][-1] == 1
    for draws in seen:
        assert draws.shape == (100, 20, draws.shape[2], 2)
        assert (draws[:, :, 0].mean().abs() < 8).all()


class Skewed:
    """Logarithms of exponential variables, the same for all observations."""

    centre = torch.zeros(400)

    def select(self, index):
        return self

    def __call__(self, position):
        return (position - position.exp()).sum(dim=-1)

    def draw(self, num_chains, dim, seed=0):
        uniform = torch.rand(num_chains, 400, dim, generator=make_generator(seed))
        return (-torch.log1p(-uniform)).log()


def measure_bias(kernel, dim=2):
    """Errors of moments after two changes of the kernel, in standard errors.

    Four chains begin with exact draws, which the kernel did not know, and go on for as
    short as they ever do. A mean over 400 observations shows a bias of a quarter of
    what chance does to one.
    """
    target = Skewed()
    result = run_sampler(
        target,
        target.draw(4, dim),
        kernel=kernel._replace(
            build=lambda generator, _: kernel.build(generator, target.draw(100, dim, 7))
        ),
        num_chains=4,
        warmup_steps=0,
        min_ess=1e6,
        max_steps=400,
    )
    assert not result.convergence.converged.any()
    values = moments(result.chains.theta[..., :2]).mean(dim=(0, 1))
    mean, variance = -0.5772157, torch.pi**2 / 6
    expected = torch.tensor([mean, mean, *2 * [variance + mean**2], mean**2])
    error = values.std(dim=0) / len(values) ** 0.5
    return (values.mean(dim=0) - expected).abs() / error


@pytest.mark.parametrize("dim", [2, 10])
@pytest.mark.parametrize("name", ["jump_walk", "independence"])
def test_what_is_learned_between_rounds_leaves_draws_exact(name, dim):
    assert measure_bias(KERNELS[name], dim).max() < LIMIT


def test_draws_that_count_for_more_than_they_are_worth_are_caught(monkeypatch):
    monkeypatch.setattr(mixture_fit, "_CHAIN_WEIGHT", 10.0)
    assert measure_bias(KERNELS["independence"], 10).max() > LIMIT


def learn_from_draws_elsewhere(kernel, learn):
    """Parameters before and after, and log-densities of the mixture at the draws."""
    starts, draws = (
        torch.randn(100, 3, 2, generator=make_generator(i)) for i in (0, 1)
    )
    before = kernel.build(make_generator(), starts)
    after = learn(make_generator(), before, draws.unsqueeze(0) + 20)
    there = draws + 20
    return before, after, lambda mixture: log_density(mixture, there).mean(dim=0)


def test_mixture_learns_between_rounds():
    kernel = KERNELS["independence"]
    before, after, measure = learn_from_draws_elsewhere(kernel, kernel.relearn)
    assert (measure(after.mixture) > measure(before.mixture) + 1).all()


def test_walk_keeps_between_rounds_the_shapes_that_its_scale_was_tuned_for():
    kernel = KERNELS["jump_walk"]
    before, after, measure = learn_from_draws_elsewhere(kernel, kernel.relearn)
    assert (measure(after[0].mixture) > measure(before[0].mixture) + 1).all()
    assert torch.equal(measure(after[1].mixture), measure(before[1].mixture))
    # In warm-up, where the scale is tuned, both learn.
    _, after, measure = learn_from_draws_elsewhere(kernel, kernel.refit)
    assert torch.equal(measure(after[1].mixture), measure(after[0].mixture))


def test_kernel_that_stays_where_it_is_liked_is_caught():
    """What is learned depends on where chains stand, and stops them there."""

    def learn(generator, parameters, draws):
        return (draws[-1, :, :, 0].mean(dim=0) < -0.6).double()

    def propose(generator, position, others, log_prob_fn, parameters):
        noise = torch.empty_like(position).normal_(generator=generator)
        return Proposal(position + parameters.unsqueeze(-1) * noise)

    kernel = Kernel(
        lambda _, starts: torch.ones(starts.shape[1]), propose, relearn=learn
    )
    assert measure_bias(kernel).max() > 2 * LIMIT
