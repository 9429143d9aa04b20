"""Every kernel leaves exact targets invariant, and broken ones are caught."""

import pytest
import torch
from helpers import (
    LIMIT,
    learn,
    make_box,
    make_gaussian,
    make_generator,
    make_skewed,
    make_two_modes,
    make_unbounded,
    measure_errors,
    sample_exact_starts,
)

from sbi_aalr.mcmc import KERNELS, Proposal, from_proposal
from sbi_aalr.mcmc import step as step_module
from sbi_aalr.mcmc.kernel import Info, State
from sbi_aalr.mcmc.kernels import differential_evolution
from sbi_aalr.mcmc.run import run
from sbi_aalr.mcmc.step import init


def pull_inwards(generator, position):
    """Propose theta' ~ N(0.8 theta, 0.6^2), which is not symmetric."""
    noise = torch.empty_like(position).normal_(generator=generator)
    proposed = 0.8 * position + 0.6 * noise
    back = (position - 0.8 * proposed) / 0.6
    return proposed, (noise.square() - back.square()).sum(dim=-1) / 2


def pull_inwards_uncorrected(generator, position):
    return pull_inwards(generator, position)[0]


def propose_independently_uncorrected(*arguments):
    position, _, _ = KERNELS["independence"].propose(*arguments)
    return Proposal(position)


ALL_KERNELS = {**KERNELS, "custom": from_proposal(pull_inwards)}
JUMPING = ("jump_walk", "independence", "differential_evolution")
TARGETS = {"gaussian": make_gaussian, "skewed": make_skewed, "box": make_box}


def measure(target, kernel, seed=1):
    features = sample_exact_starts(target, kernel, seed=seed)
    return measure_errors(features, target.expected, min_ess=400)


def measure_from_equal_modes(kernel, seed=1, num_draws=300):
    """Start with as many chains in either mode: they must find the proportions."""
    target = make_two_modes()
    generator, state, parameters = learn(target, kernel, seed=seed)
    with torch.no_grad():
        _, chains = run(
            generator,
            state,
            target.log_prob_fn,
            kernel=kernel,
            parameters=parameters,
            num_draws=num_draws,
            thin=4,
        )
    features = target.features(chains.theta)
    return measure_errors(features, target.expected, min_ess=400)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ALL_KERNELS)
def test_kernel_leaves_target_invariant(name, target):
    exact = TARGETS[target]()
    if target == "box" and ALL_KERNELS[name].unconstrained:
        exact = make_unbounded(exact)
    assert measure(exact, ALL_KERNELS[name]).max() < LIMIT


# The others are exempt: random walks go from mode to mode only where these are few
# steps apart, and trajectories of HMC run downhill into the mode they come from.
@pytest.mark.parametrize("name", JUMPING)
def test_jumping_kernel_finds_the_proportions_of_modes(name):
    assert measure_from_equal_modes(KERNELS[name]).max() < LIMIT


def test_local_kernel_does_not_pass_for_a_jumping_one():
    with pytest.raises(AssertionError, match="ESS"):
        measure_from_equal_modes(KERNELS["hmc"], num_draws=50)


def test_check_fails_for_a_wrong_target():
    target = make_gaussian()
    features = sample_exact_starts(target, KERNELS["adaptive_random_walk"], seed=1)
    assert measure_errors(features, target.expected, min_ess=400).max() < LIMIT
    wrong = target.expected.clone()
    wrong[0, 2] *= 1.2
    errors = measure_errors(features, wrong, min_ess=400)
    assert errors[0, 2] > 1.5 * LIMIT
    errors[0, 2] = 0
    assert errors.max() < LIMIT


def test_check_fails_for_too_few_effective_draws():
    features = torch.randn(4, 50, 1, 1, generator=make_generator())
    assert measure_errors(features, [[0.0]], min_ess=100).max() < LIMIT
    with pytest.raises(AssertionError, match="ESS"):
        measure_errors(features.cumsum(dim=1), [[0.0]], min_ess=100)


def test_dropped_correction_of_independence_is_caught():
    broken = KERNELS["independence"]._replace(
        propose=propose_independently_uncorrected, look_ahead=None
    )
    assert measure(make_skewed(), broken).max() > 2 * LIMIT


def test_dropped_correction_of_asymmetric_proposal_is_caught():
    broken = from_proposal(pull_inwards_uncorrected)
    assert measure(make_gaussian(), broken).max() > 2 * LIMIT


def make_box_with_nan():
    """The box with NaN outside, which is what a network may say there."""
    box = make_box()

    def log_prob_fn(theta):
        inside = ((theta >= 0) & (theta <= 1)).all(dim=-1)
        return torch.where(inside, box.log_prob_fn(theta), torch.nan)

    return box._replace(log_prob_fn=log_prob_fn)


def test_nan_outside_leaves_target_invariant():
    assert measure(make_box_with_nan(), KERNELS["random_walk"]).max() < LIMIT


def test_nan_treated_as_accept_is_caught(monkeypatch):
    def accept_nan(generator, state, proposal, log_correction=0.0):
        log_ratio = proposal.log_prob - state.log_prob + log_correction
        uniform = torch.rand(log_ratio.shape, generator=generator)
        accepted = ~(uniform >= log_ratio.exp())
        position = torch.where(
            accepted.unsqueeze(-1), proposal.position, state.position
        )
        log_prob = torch.where(accepted, proposal.log_prob, state.log_prob)
        rate = log_ratio.exp().clamp(max=1)
        return State(position, log_prob), Info(rate, accepted, proposal)

    monkeypatch.setattr(step_module, "accept", accept_nan)
    errors = measure(make_box_with_nan(), KERNELS["random_walk"])
    assert errors.max() > 2 * LIMIT


def measure_populations(kernel, seed):
    """Variance error over many small populations of chains, for a standard Gaussian.

    Each population is an observation. Chains of one depend on each other, so that its
    mean is what counts as one chain in the Monte Carlo error.
    """
    generator = make_generator(seed)

    def log_prob_fn(theta):
        return -theta.square().sum(dim=-1) / 2

    exact = torch.randn(1_000, 1, 5, generator=generator).expand(-1, 500, -1)
    _, chains = run(
        generator,
        init(torch.randn(6, 500, 5, generator=generator), log_prob_fn),
        log_prob_fn,
        kernel=kernel,
        parameters=kernel.build(generator, exact),
        num_draws=150,
        thin=2,
    )
    features = chains.theta.square().mean(dim=(0, 3)).T[:, :, None, None]
    return measure_errors(features, [[1.0]], min_ess=400).item()


def propose_from_moving_chains(generator, position, others, log_prob_fn, parameters):
    """Differential evolution from two others of the chains that move all at once."""
    chains, observations, _ = position.shape
    rank = torch.rand(chains, chains, observations, generator=generator)
    # A chain is never one of the two it proposes from.
    pair = (rank + torch.eye(chains).unsqueeze(-1)).argsort(dim=1)[:, :2].unsqueeze(-1)
    ends = position.expand(chains, *position.shape).gather(
        1, pair.expand(*pair.shape[:3], position.shape[-1])
    )
    scale = parameters.scale.log_scale.exp().unsqueeze(-1)
    return Proposal(position + scale * (ends[:, 0] - ends[:, 1]))


def test_differential_evolution_in_halves_is_exact_for_small_populations():
    assert measure_populations(differential_evolution.KERNEL, seed=1) < LIMIT


@pytest.mark.parametrize(
    "changes", [{}, {"propose": propose_from_moving_chains}], ids=["any", "others"]
)
def test_differential_evolution_without_halves_is_caught(changes):
    naive = differential_evolution.KERNEL._replace(uses_population=False, **changes)
    assert measure_populations(naive, seed=1) > 4 * LIMIT


def test_kernel_that_never_stops_learning_is_caught():
    """Widths taken from the very chains that move, at every step."""

    def propose(generator, position, others, log_prob_fn, parameters):
        mean, width = position.mean(dim=0), position.std(dim=0)
        noise = torch.empty_like(position).normal_(generator=generator)
        return Proposal(mean + width * noise)

    learning = differential_evolution.KERNEL._replace(
        propose=propose, uses_population=False
    )
    assert measure_populations(learning, seed=1) > 4 * LIMIT
