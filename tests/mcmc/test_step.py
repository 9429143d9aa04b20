"""The Metropolis-Hastings step by hand: every number of its states and reports."""

import math

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc import KERNELS, Kernel, Proposal, from_proposal
from sbi_aalr.mcmc.kernel import State
from sbi_aalr.mcmc.step import accept, init, step


def make_state(log_prob, value=0.0):
    log_prob = torch.tensor(log_prob)
    return State(torch.full((*log_prob.shape, 1), value), log_prob)


def accept_many(gap, correction=0.0, number=20_000):
    """Share of acceptances and reported rate for one log-density difference."""
    state = make_state([[0.0]] * number)
    proposal = make_state([[gap]] * number, value=1.0)
    _, info = accept(make_generator(), state, proposal, correction)
    return info.accepted.float().mean().item(), info.acceptance_rate[0, 0].item()


def log_prob_gaussian(theta):
    return -theta.square().sum(dim=-1) / 2


def test_init_carries_position_and_log_prob():
    position = torch.tensor([[[1.0, 2.0]], [[0.0, 3.0]]])
    state = init(position, log_prob_gaussian)
    assert torch.equal(state.position, position)
    assert state.log_prob.tolist() == [[-2.5], [-4.5]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_init_names_chain_and_observation_of_a_bad_start(bad):
    position = torch.zeros(3, 4, 2)
    position[2, 1] = torch.tensor([7.0, 8.0])

    def log_prob_fn(theta):
        return torch.where(theta[..., 0] == 7, bad, 0.0)

    match = r"1 of 12 do not: chain 2 of observation 1 starts at \[7.0, 8.0\]"
    with pytest.raises(ValueError, match=match):
        init(position, log_prob_fn)


def test_higher_log_prob_is_always_accepted():
    state, proposal = make_state([[-1.0, -5.0]]), make_state([[-1.0, 2.0]], value=3.0)
    new, info = accept(make_generator(), state, proposal)
    assert torch.equal(new.position, proposal.position)
    assert torch.equal(new.log_prob, proposal.log_prob)
    assert info.acceptance_rate.tolist() == [[1.0, 1.0]]
    assert info.accepted.tolist() == [[True, True]]
    assert info.proposal is proposal
    assert info.component is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_difference_that_is_no_number_is_always_rejected(bad):
    state, proposal = make_state([[-1.0]] * 50), make_state([[bad]] * 50, value=3.0)
    new, info = accept(make_generator(), state, proposal)
    assert torch.equal(new.position, state.position)
    assert torch.equal(new.log_prob, state.log_prob)
    assert not info.acceptance_rate.any()
    assert info.accepted.dtype == torch.bool
    assert not info.accepted.any()
    assert info.proposal is proposal
    assert accept_many(0.0, bad) == (0.0, 0.0)


def test_acceptance_probability_is_the_ratio_of_densities():
    share, rate = accept_many(math.log(0.3))
    assert rate == pytest.approx(0.3)
    assert share == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 20_000))


@pytest.mark.parametrize(("correction", "expected"), [(-0.5, 0.5), (0.4, 0.9)])
def test_correction_is_added_to_the_difference(correction, expected):
    gap = math.log(expected) - correction
    share, rate = accept_many(gap, correction)
    assert rate == pytest.approx(expected)
    assert share == pytest.approx(expected, abs=0.02)


def test_each_chain_and_observation_is_judged_by_itself():
    state = make_state([[0.0, 0.0], [0.0, 0.0]])
    proposal = make_state([[9.0, -99.0], [math.nan, 9.0]], value=1.0)
    new, info = accept(make_generator(), state, proposal)
    assert info.accepted.tolist() == [[True, False], [False, True]]
    assert new.position[..., 0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert new.log_prob.tolist() == [[9.0, 0.0], [0.0, 9.0]]


class Counter:
    """A log-density that keeps every row it is asked about."""

    def __init__(self):
        self.rows = []

    def __call__(self, theta):
        self.rows.append(theta)
        return log_prob_gaussian(theta)


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"hmc"}))
def test_step_evaluates_one_row_a_chain_and_only_its_proposal(name):
    counter, generator = Counter(), make_generator()
    state = init(torch.randn(8, 3, 2, generator=generator), log_prob_gaussian)
    kernel = KERNELS[name]
    parameters = kernel.build(generator, state.position)
    new, info = step(generator, state, counter, kernel=kernel, parameters=parameters)
    assert torch.equal(torch.cat(counter.rows), info.proposal.position)
    assert torch.equal(
        info.proposal.log_prob, log_prob_gaussian(torch.cat(counter.rows))
    )
    # What is carried is one of the two, to the last bit.
    expected = torch.where(info.accepted, info.proposal.log_prob, state.log_prob)
    assert torch.equal(new.log_prob, expected)


def test_carried_log_prob_is_never_recomputed():
    noisy = make_generator(5)

    def log_prob_fn(theta):
        return log_prob_gaussian(theta) + 10 * torch.rand(4, 1, generator=noisy)

    kernel = from_proposal(lambda generator, position: position.clone())
    state = State(torch.zeros(4, 1, 1), torch.full((4, 1), 100.0))
    for _ in range(20):
        state, _ = step(
            make_generator(), state, log_prob_fn, kernel=kernel, parameters=()
        )
    assert (state.log_prob == 100).all()


def test_population_kernel_proposes_from_the_half_that_stands_still():
    seen = []

    def propose(generator, position, others, log_prob_fn, parameters):
        seen.append((position, others))
        return Proposal(position + 10)

    kernel = Kernel(
        lambda *_: (), propose, lambda p, _: p, lambda _, p, d: p, uses_population=True
    )
    state = init(torch.arange(5.0).reshape(5, 1, 1), lambda theta: theta[..., 0])
    new, info = step(
        make_generator(),
        state,
        lambda theta: theta[..., 0],
        kernel=kernel,
        parameters=(),
    )
    flat = [(p.flatten().tolist(), o.flatten().tolist()) for p, o in seen]
    # The second half sees the first one where it has gone.
    assert flat == [([0.0, 1.0], [2.0, 3.0, 4.0]), ([2.0, 3.0, 4.0], [10.0, 11.0])]
    assert new.position.flatten().tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert info.accepted.all() and info.accepted.shape == (5, 1)


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"differential_evolution"}))
def test_frozen_chains_never_mix(name):
    generator = make_generator()
    start = torch.randn(12, 1, 2, generator=generator)
    kernel = KERNELS[name]
    parameters = kernel.build(generator, start)
    moved = start.clone()
    moved[3] += 0.1
    results = []
    for position in (start, moved):
        state = init(position, log_prob_gaussian)
        state, _ = step(
            make_generator(1),
            state,
            log_prob_gaussian,
            kernel=kernel,
            parameters=parameters,
        )
        results.append(state.position)
    same = (results[0] == results[1]).all(dim=-1)[:, 0]
    others = torch.arange(12) != 3
    assert same[others].all()
