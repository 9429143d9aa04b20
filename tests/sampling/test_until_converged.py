"""Sampling until converged: who leaves when, and who must not."""

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc import KERNELS, from_proposal
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.sampling.plan import make_plan
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.until_converged import (
    draw_until_converged,
    measure,
    warm_up_chains,
)

SETTINGS = {
    "kernel": "adaptive_random_walk",
    "num_chains": 20,
    "warmup_steps": 150,
    "thin": 1,
    "max_steps": 50_000,
}


class Gaussians:
    """Gaussians around centres `(B,)`, which count the observations they are given."""

    def __init__(self, centre, scale=None):
        self.centre = torch.as_tensor(centre)
        self.scale = torch.ones_like(self.centre) if scale is None else scale
        self.rows = []

    def select(self, index):
        chosen = Gaussians(self.centre[index], self.scale[index])
        chosen.rows = self.rows
        return chosen

    def __call__(self, position):
        self.rows.append(position.shape[1])
        gap = (position - self.centre.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        return -gap.square().sum(dim=-1) / 2


def start_at(target, num_chains=20, dim=2, seed=0):
    shape = (num_chains, len(target.centre), dim)
    noise = torch.randn(shape, generator=make_generator(seed))
    return target.centre.unsqueeze(-1) + target.scale.unsqueeze(-1) * noise


def run_sampler(target, starts=None, num_draws=100, seed=1, callbacks=None, **settings):
    chosen = Settings(**{**SETTINGS, **settings})
    starts = start_at(target, chosen.num_chains) if starts is None else starts
    plan = make_plan(chosen, 1, num_observations=len(target.centre), ratio_dim=None)
    plan, generator = plan._replace(num_draws=num_draws), make_generator(seed)
    with torch.no_grad():
        warmed_up = warm_up_chains(generator, target, starts, plan)
        return draw_until_converged(
            generator, target, warmed_up, plan, **(callbacks or {})
        )


def propose_at_different_scales(generator, position):
    """Steps that suit targets of scale one: too small for wider ones."""
    return position + 1.5 * torch.empty_like(position).normal_(generator=generator)


def make_easy_and_hard():
    return Gaussians([0.0, 100.0, -50.0], torch.tensor([8.0, 1.0, 1.5]))


def test_easy_observations_leave_early_and_results_keep_their_order():
    target = make_easy_and_hard()
    result = run_sampler(target, kernel=from_proposal(propose_at_different_scales))
    found = result.convergence
    assert found.converged.all()
    assert found.num_steps[0] >= 4 * found.num_steps[1]
    # Only the hard one was evaluated in the end.
    assert target.rows[-1] == 1
    assert target.rows[0] == 3
    mean = result.chains.theta.mean(dim=(0, 1, 3))
    assert ((mean - target.centre).abs() < target.scale / 3).all()
    assert result.chains.theta.shape == (20, 100, 3, 2)
    # Log-densities and acceptances came back with their own observation.
    torch.testing.assert_close(result.chains.log_prob, recompute(target, result))
    alone = result.chains.acceptance_rate.mean(dim=(0, 1)) - found.acceptance_rate
    assert alone.abs().max() < 0.05
    assert found.acceptance_rate[0] > found.acceptance_rate[2] + 0.1


def recompute(target, result):
    gap = result.chains.theta - target.centre.unsqueeze(-1)
    return -(gap / target.scale.unsqueeze(-1)).square().sum(dim=-1) / 2


def test_convergence_is_that_of_the_chains_that_come_with_it():
    result = run_sampler(make_easy_and_hard())
    again = measure(result.chains, None, Settings(**SETTINGS), 0)
    torch.testing.assert_close(again.r_hat, result.convergence.r_hat)
    torch.testing.assert_close(again.ess_bulk, result.convergence.ess_bulk)
    torch.testing.assert_close(again.ess_tail, result.convergence.ess_tail)
    assert (result.convergence.r_hat <= 1.01).all()
    assert (torch.minimum(again.ess_bulk, again.ess_tail) >= 400).all()


def test_same_seed_gives_same_chains():
    first, second = (run_sampler(make_easy_and_hard()) for _ in range(2))
    assert torch.equal(first.chains.theta, second.chains.theta)
    other = run_sampler(make_easy_and_hard(), seed=2)
    assert not torch.equal(first.chains.theta, other.chains.theta)


def test_max_steps_is_respected_and_what_it_cut_off_is_not_converged():
    target = make_easy_and_hard()
    kernel = from_proposal(propose_at_different_scales)
    result = run_sampler(target, kernel=kernel, max_steps=450)
    assert result.convergence.num_steps.tolist()[0] == 400
    assert not result.convergence.converged[0]
    assert len(target.rows) == 1 + SETTINGS["warmup_steps"] + 400


def test_first_round_is_run_even_beyond_max_steps():
    result = run_sampler(make_easy_and_hard(), num_draws=100, max_steps=7)
    assert result.convergence.num_steps.tolist() == [100] * 3


def test_without_limits_there_is_one_round():
    result = run_sampler(
        make_easy_and_hard(), num_draws=30, thin=3, max_rhat=None, min_ess=None
    )
    assert result.convergence.num_steps.tolist() == [90] * 3
    assert result.chains.theta.shape == (20, 30, 3, 2)
    assert result.warmup.theta.shape == (20, 50, 3, 2)


def test_progress_counts_steps_and_converged_observations():
    steps, done = [], []
    kernel = from_proposal(propose_at_different_scales)
    result = run_sampler(
        make_easy_and_hard(),
        kernel=kernel,
        callbacks={"on_step": steps.append, "on_done": done.append},
    )
    assert sum(steps) == result.convergence.num_steps.max()
    assert sum(len(convergence.converged) for convergence in done) == 3
    assert done[-1].num_steps.tolist() == [result.convergence.num_steps.max()]


class TwoModes(Gaussians):
    """Equal Gaussians 40 of their widths apart."""

    def select(self, index):
        return TwoModes(self.centre[index])

    def __call__(self, position):
        left, right = (
            -(position + sign * 20).square().sum(dim=-1) / 2 for sign in (-1, 1)
        )
        return torch.logaddexp(left, right)


@pytest.mark.parametrize("num_chains", [20, 160])
def test_mode_that_some_chains_miss_shows_in_r_hat(num_chains):
    """Nested R-hat, which is used for many chains, must see it as well."""
    target = TwoModes([0.0])
    starts = torch.randn(num_chains, 1, 2, generator=make_generator())
    starts[: num_chains // 5] += 20
    starts[num_chains // 5 :] -= 20
    kernel = from_proposal(propose_at_different_scales)
    result = run_sampler(
        target, starts, kernel=kernel, num_chains=num_chains, max_steps=800
    )
    assert result.convergence.r_hat.min() > 1.1
    assert not result.convergence.converged.any()
    assert result.convergence.num_steps.item() == 800


def test_many_short_chains_converge_by_nested_r_hat():
    target = Gaussians([0.0, 5.0])
    result = run_sampler(target, num_draws=20, num_chains=320, thin=3)
    assert result.convergence.converged.all()
    assert result.convergence.num_steps.max() <= 240


class Trap(Gaussians):
    """A point that no proposal leaves."""

    def select(self, index):
        return Trap(self.centre[index])

    def __call__(self, position):
        trapped = (position == 0.5).all(dim=-1)
        return torch.where(trapped, 1e4, super().__call__(position))


def test_stuck_chain_is_counted_and_not_converged():
    target = Trap([0.0, 0.0])
    starts = start_at(target, 100)
    starts[17, 1] = 0.5
    result = run_sampler(target, starts, num_chains=100, max_steps=1_600)
    assert result.convergence.stuck_chains.tolist() == [[0, 0], [1, 1]]
    assert result.convergence.converged.tolist() == [True, False]
    # Among as many chains, nothing but the count gives it away.
    assert (result.convergence.r_hat <= 1.01).all()
    assert (result.convergence.ess_tail >= 400).all()
    assert not result.chains.accepted[17, :, 1].any()


def test_draws_come_from_the_first_of_the_chains_that_warmed_up():
    target = Gaussians([0.0, 4.0])
    result = run_sampler(target, start_at(target, 60), num_chains=7, thin=3)
    assert result.chains.theta.shape == (7, 100, 2, 2)
    assert result.warmup.theta.shape == (7, 50, 2, 2)
    assert result.convergence.converged.all()


def count_steps(num_draws, rounds):
    """Follow which steps are kept when draws are thinned and joined."""
    steps, thin, last = torch.arange(1, num_draws + 1), 1, num_draws
    for _ in range(rounds):
        theta = steps.reshape(1, -1, 1, 1).float()
        kept = Chains(*[theta] + 3 * [theta[..., 0]]).thin_by_two()
        thin *= 2
        missing = num_draws - kept.num_draws
        new = last + thin * torch.arange(1, missing + 1)
        steps = torch.cat((kept.theta.flatten().long(), new))
        last = int(steps[-1])
    return steps


@pytest.mark.parametrize("num_draws", [4, 50, 100])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_doubled_thinning_keeps_draws_evenly_spaced(num_draws, rounds):
    steps = count_steps(num_draws, rounds)
    assert steps.tolist() == [2**rounds * i for i in range(1, num_draws + 1)]


def test_chains_that_went_on_have_even_spacing_and_full_acceptance_rates():
    """A counter as the chain: every step adds one, and is accepted."""

    class Counting(Gaussians):
        def select(self, index):
            return Counting(self.centre[index])

        def __call__(self, position):
            return torch.zeros_like(position[..., 0])

    kernel = from_proposal(lambda generator, position: position + 1)
    starts = torch.zeros(4, 1, 1)
    result = run_sampler(
        Counting([0.0]),
        starts,
        num_draws=10,
        kernel=kernel,
        num_chains=4,
        warmup_steps=0,
        thin=3,
        max_steps=3 * 10 * 4,
    )
    assert result.convergence.num_steps.item() == 120
    expected = [12.0 * draw for draw in range(1, 11)]
    assert result.chains.theta[0, :, 0, 0].tolist() == expected
    assert (result.chains.acceptance_rate == 1).all()


def test_thinned_acceptance_rates_are_means_over_all_steps():
    rate = torch.tensor([0.0, 1.0, 0.5, 0.7]).reshape(1, 4, 1)
    chains = Chains(rate.unsqueeze(-1), rate, rate, rate > 0.6)
    thinned = chains.thin_by_two()
    assert thinned.acceptance_rate.flatten().tolist() == pytest.approx([0.5, 0.6])
    assert thinned.accepted.flatten().tolist() == [True, True]
    assert thinned.log_prob.flatten().tolist() == pytest.approx([1.0, 0.7])


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"hmc"}))
def test_every_kernel_goes_on_after_observations_have_left(name):
    target = Gaussians([0.0, 30.0, -30.0], torch.tensor([1.0, 3.0, 0.2]))
    result = run_sampler(target, num_draws=60, max_steps=8_000, kernel=name)
    mean = result.chains.theta.mean(dim=(0, 1))
    gap = (mean - target.centre.unsqueeze(-1)) / target.scale.unsqueeze(-1)
    assert gap.abs().max() < 0.3
    assert result.convergence.converged.all()
