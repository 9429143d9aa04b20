"""A mixture of kernels is a kernel."""

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc import KERNELS, Kernel, Proposal, from_proposal, mix
from sbi_aalr.mcmc.kernel import Info, State
from sbi_aalr.mcmc.kernels import differential_evolution, random_walk
from sbi_aalr.mcmc.run import warm_up
from sbi_aalr.mcmc.step import init, step


def make_marker(offset, correction=0.0):
    """A kernel that moves by a fixed offset, which shows that it was used."""

    def propose(generator, position):
        return position + offset, torch.full_like(position[..., 0], correction)

    return from_proposal(propose)


def use(kernel, num_chains, seed=0, num_observations=1):
    position = torch.zeros(num_chains, num_observations, 1)
    generator = make_generator(seed)
    parameters = kernel.build(generator, position)
    return kernel.propose(
        generator, position, position, lambda t: t[..., 0], parameters
    )


def test_every_chain_gets_the_proposal_of_its_component():
    kernel = mix([make_marker(1.0, 0.1), make_marker(2.0, 0.2)], [0.6, 0.4])
    proposal = use(kernel, 50, num_observations=3)
    assert proposal.position.shape == (50, 3, 1)
    assert torch.equal(proposal.position[..., 0], proposal.component + 1.0)
    correction = 0.1 * (proposal.component + 1)
    torch.testing.assert_close(proposal.log_correction, correction)


def test_position_and_proposal_belong_to_the_same_chain():
    position = torch.arange(40.0).reshape(20, 2, 1)
    kernel = mix([make_marker(0.25), make_marker(0.5)], [0.5, 0.5])
    proposal = kernel.propose(
        make_generator(), position, position, lambda t: t[..., 0], ((), ())
    )
    assert torch.equal(proposal.position.floor(), position)


@pytest.mark.parametrize("num_chains", [1, 3, 7, 100])
def test_probabilities_are_respected(num_chains):
    probabilities = [0.1, 0.6, 0.3]
    kernel = mix([make_marker(i) for i in range(3)], probabilities)
    component = torch.cat(
        [use(kernel, num_chains, seed=s).component for s in range(900)]
    )
    share = component.flatten().bincount(minlength=3) / component.numel()
    assert share.tolist() == pytest.approx(probabilities, abs=0.06)


def test_which_chain_gets_which_kernel_changes_from_step_to_step():
    kernel = mix([make_marker(0), make_marker(1)], [0.7, 0.3])
    component = torch.stack([use(kernel, 20, seed=s).component for s in range(900)])
    share = component.double().mean(dim=0).flatten()
    assert (share - 0.3).abs().max() < 5 * (0.21 / 900) ** 0.5


def test_only_the_scale_that_made_a_proposal_is_tuned():
    kernel = mix([random_walk.KERNEL, random_walk.KERNEL], [0.5, 0.5])
    parameters = kernel.build(make_generator(), torch.randn(4, 2, 1))
    component = torch.tensor([[0, 0], [0, 0], [0, 1], [0, 1]])
    rate = torch.tensor([[0.9, 0.9], [0.9, 0.9], [0.9, 0.1], [0.9, 0.1]])
    position = torch.zeros(4, 2, 1)
    info = Info(rate, rate > 0.5, State(position, rate), component)
    first, second = kernel.tune(parameters, info)
    alone = random_walk.KERNEL.tune(
        parameters[0], info._replace(acceptance_rate=torch.full((4, 2), 0.9))
    )
    assert torch.equal(first.scale.log_scale, alone.scale.log_scale)
    assert second.scale.log_scale[0] == parameters[1].scale.log_scale[0]
    assert second.scale.log_scale[1] < parameters[1].scale.log_scale[1]


def test_mixture_of_mixtures_tunes_each_part_by_its_own_proposals():
    def make(target):
        def tune(parameters, info):
            return [*parameters, info.acceptance_rate]

        return Kernel(
            lambda *_: [],
            lambda g, p, o, f, q: Proposal(p + target),
            tune,
            lambda g, p, d: p,
        )

    inner = mix([make(0.0), make(1.0)], [0.5, 0.5])
    kernel = mix([make(2.0), inner], [0.4, 0.6])
    proposal = use(kernel, 50)
    rate = proposal.position[..., 0]
    info = Info(rate, rate > 0, State(proposal.position, rate), proposal.component)
    outer, (first, second) = kernel.tune(([], ([], [])), info)
    for seen, target in ((outer, 2.0), (first, 0.0), (second, 1.0)):
        known = seen[0][~seen[0].isnan()]
        assert torch.equal(known, torch.full_like(known, target))
        assert len(known) == (rate == target).sum() > 0


def test_every_combination_of_kernels_runs():
    kernel = mix(list(KERNELS.values()), [1 / len(KERNELS)] * len(KERNELS))
    assert kernel.uses_population
    assert kernel.unconstrained

    def log_prob_fn(theta):
        return -theta.square().sum(dim=-1) / 2

    state = init(torch.randn(24, 2, 2, generator=make_generator()), log_prob_fn)
    state, parameters, chains = warm_up(
        make_generator(), state, log_prob_fn, kernel=kernel, num_steps=60
    )
    assert len(parameters) == len(KERNELS)
    assert chains.theta.isfinite().all()
    assert 0.1 < chains.acceptance_rate.mean() < 0.9
    _, info = step(
        make_generator(), state, log_prob_fn, kernel=kernel, parameters=parameters
    )
    assert info.component.shape == (24, 2)


def test_flags_are_those_of_any_part():
    plain = mix([random_walk.KERNEL, make_marker(0)], [0.5, 0.5])
    assert not plain.uses_population and not plain.unconstrained
    population = mix([random_walk.KERNEL, differential_evolution.KERNEL], [0.5, 0.5])
    assert population.uses_population and not population.unconstrained
    bounded = mix([random_walk.KERNEL, KERNELS["hmc"]], [0.5, 0.5])
    assert bounded.unconstrained and not bounded.uses_population


@pytest.mark.parametrize(
    ("number", "probabilities", "match"),
    [
        (2, [1.0], "one number a kernel, got 1 for 2"),
        (0, [], "one number a kernel, got 0 for 0"),
        (2, [0.5, 0.6], "sum to 1"),
        (2, [1.0, 0.0], "must be positive"),
        (2, [1.5, -0.5], "must be positive"),
        (2, [0.5, float("nan")], "must be positive"),
    ],
)
def test_wrong_probabilities_are_refused(number, probabilities, match):
    with pytest.raises(ValueError, match=match):
        mix([random_walk.KERNEL] * number, probabilities)


def test_a_proposal_in_prior_units_is_not_mixed_with_one_without_bounds():
    """Hamiltonian steps would take it where its reflections mean nothing."""

    def reflect(generator, position):
        noise = torch.empty_like(position).normal_(generator=generator)
        return 1 - (1 - (position + noise).abs()).abs()

    with pytest.raises(ValueError, match="in one space, got"):
        mix([from_proposal(reflect), KERNELS["hmc"]], [0.5, 0.5])
    free = from_proposal(reflect, unconstrained=True)
    assert mix([free, KERNELS["hmc"]], [0.5, 0.5]).unconstrained
