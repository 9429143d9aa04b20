"""Stacks: the weighted sum of their members, and all that a ratio estimator is."""

import copy
import pickle

import pytest
import torch
from exact_ratios import make_known, make_posterior_density
from linear_gaussian import PRIOR, draw_pairs, log_ratio
from torch import nn

from sbi_aalr import MHPosterior
from sbi_aalr.networks import (
    Stack,
    average_log_ratios,
    is_plain,
    is_separable,
    likelihood_mixture,
    two_towers,
)
from sbi_aalr.networks.pairs import fix_observations
from sbi_aalr.networks.stack import Offset

THETA, THETA_PRIME, X = draw_pairs(200, seed=1)
WEIGHTS = torch.tensor([0.7, 0.0, 1.2])


def make_members():
    torch.manual_seed(1)
    return [
        make_posterior_density(200),
        two_towers(8, 1)(THETA, X).eval(),
        likelihood_mixture(2, 8)(THETA, X).eval(),
    ]


def make_offset():
    offset = Offset(X)
    nn.init.normal_(offset.last.weight)
    return offset.eval()


def make_stack(weights=WEIGHTS, offset=True, proposal=0):
    members = make_members()
    chosen = None if proposal is None else members[proposal]
    return members, Stack(members, weights, make_offset() if offset else None, chosen)


@torch.no_grad()
def test_log_ratio_is_the_weighted_sum_and_the_offset():
    members, stack = make_stack()
    offset = stack.embedding_net_x[-1](X)[:, 0]
    assert offset.std() > 0.01
    expected = 0.7 * members[0](THETA, X) + 1.2 * members[2](THETA, X) + offset
    torch.testing.assert_close(stack(THETA, X), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_without_an_offset_nothing_is_added():
    members, stack = make_stack(torch.tensor([1.0, 0.0, 0.0]), offset=False)
    torch.testing.assert_close(stack(THETA, X), members[0](THETA, X))
    assert not stack.has_offset and make_stack()[1].has_offset


@torch.no_grad()
def test_members_of_no_weight_are_left_out():
    members, stack = make_stack()
    assert [
        member is one for member, one in zip(stack.stacked, members[::2], strict=True)
    ]
    assert len(stack.stacked) == 2
    before = stack(THETA, X)
    for parameter in members[1].parameters():
        parameter.fill_(float("nan"))
    assert torch.equal(stack(THETA, X), before)
    own = {id(parameter) for parameter in stack.parameters()}
    assert not own & {id(parameter) for parameter in members[1].parameters()}


@torch.no_grad()
def test_all_pairs_are_rows():
    _, stack = make_stack()
    assert is_separable(stack) and is_plain(stack)
    pairs = fix_observations(stack, X[:5])(THETA[:7])
    assert pairs.shape == (7, 5)
    rows = stack(THETA[:7].repeat_interleave(5, dim=0), X[:5].repeat(7, 1))
    torch.testing.assert_close(pairs.flatten(), rows, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_exact_member_is_exact_with_any_other_of_no_weight():
    members = [make_known(), *make_members()]
    stack = Stack(members, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(stack(THETA, X), log_ratio(THETA, X))
    assert stack.proposal is None


@pytest.mark.parametrize("proposal", [0, None])
@pytest.mark.parametrize("weights", [WEIGHTS, torch.tensor([0.0, 1.0, 0.0])])
@torch.no_grad()
def test_copies_give_the_same(weights, proposal):
    _, stack = make_stack(weights, proposal=proposal)
    expected = stack(THETA, X)
    for twin in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        assert torch.equal(twin(THETA, X), expected)
        assert (twin.proposal is None) == (proposal is None)
        if proposal is not None:
            assert twin.proposal is not stack.proposal
            found = twin.proposal(THETA, X)
            assert torch.equal(found, stack.proposal(THETA, X))
        for parameter in twin.parameters():
            parameter.fill_(float("nan"))
        assert torch.equal(stack(THETA, X), expected)
        if proposal is not None:
            # A copy shares its own weights between head and proposal, as before.
            assert torch.isnan(twin.proposal(THETA, X)).all()


@pytest.mark.parametrize("weights", [WEIGHTS, torch.tensor([0.0, 1.0, 0.0])])
@torch.no_grad()
def test_weights_can_be_carried_over(weights):
    _, stack = make_stack(weights)
    other = copy.deepcopy(stack)
    for parameter in other.parameters():
        parameter.add_(0.1)
    other.net.weights.mul_(2)
    assert not torch.equal(other(THETA, X), stack(THETA, X))
    other.load_state_dict(stack.state_dict())
    assert torch.equal(other(THETA, X), stack(THETA, X))
    assert torch.equal(other.proposal(THETA, X), stack.proposal(THETA, X))


def test_proposal_outside_of_the_stack_is_part_of_its_weights():
    members, stack = make_stack(torch.tensor([0.0, 1.0, 0.0]))
    assert stack.proposal is members[0] and len(stack.stacked) == 1
    own = {id(parameter) for parameter in stack.parameters()}
    assert own >= {id(parameter) for parameter in members[0].parameters()}
    # Inside it is there once.
    _, inside = make_stack()
    names = [name for name, _ in inside.named_parameters() if "unused" in name]
    assert not names


@torch.no_grad()
def test_stack_moves_as_a_whole():
    _, stack = make_stack(torch.tensor([0.0, 1.0, 0.0]))
    expected = stack(THETA, X)
    assert stack.to("cpu") is stack
    assert torch.equal(stack(THETA, X), expected)
    stack.to("meta")
    everything = [*stack.parameters(), *stack.buffers()]
    everything += [*stack.proposal.parameters(), *stack.proposal.buffers()]
    assert {part.device.type for part in everything} == {"meta"}


def test_gradients_reach_theta_and_the_members():
    _, stack = make_stack()
    theta = THETA.clone().requires_grad_()
    stack(theta, X).sum().backward()
    assert torch.isfinite(theta.grad).all() and theta.grad.abs().min() > 0
    for member in stack.stacked:
        assert any(p.grad is not None and p.grad.any() for p in member.parameters())


@torch.no_grad()
def test_stacks_average_like_any_other():
    stacks = [make_stack()[1], make_stack(torch.tensor([0.0, 1.0, 0.3]))[1]]
    mean = average_log_ratios(stacks)
    assert is_separable(mean)
    expected = (stacks[0](THETA, X) + stacks[1](THETA, X)) / 2
    torch.testing.assert_close(mean(THETA, X), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_stack_is_a_member_of_a_stack():
    _, inner = make_stack()
    outer = Stack([inner, make_known()], torch.tensor([0.5, 0.5]))
    expected = (inner(THETA, X) + log_ratio(THETA, X)) / 2
    torch.testing.assert_close(outer(THETA, X), expected, rtol=1e-4, atol=1e-4)


def test_offset_is_zero_at_first_and_one_number_a_row():
    for x in (X, torch.randn(20, 2, 3)):
        offset = Offset(x)
        assert torch.equal(offset(x), torch.zeros(len(x), 1))
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    offset = Offset(torch.randn(20, 2, 3), net)
    assert offset(torch.randn(5, 2, 3)).shape == (5, 1)
    # The net is fitted already.
    assert not any(p.requires_grad for p in offset.embed.parameters())
    assert all(p.requires_grad for p in net.parameters())


def test_stack_is_ready_to_use_and_serves_a_posterior():
    _, stack = make_stack()
    assert not stack.training
    posterior = MHPosterior.from_estimator(stack, PRIOR)
    log_prob = posterior.log_prob(THETA[:5], x=X[0])
    expected = stack(THETA[:5], X[:1].expand(5, -1)) + PRIOR.log_prob(THETA[:5])
    torch.testing.assert_close(
        log_prob - log_prob[0], (expected - expected[0]).detach(), rtol=1e-3, atol=1e-3
    )
