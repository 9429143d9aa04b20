"""Kernels made of a user's proposal."""

import pickle

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc import Kernel, from_proposal, mix
from sbi_aalr.mcmc.kernels import random_walk
from sbi_aalr.mcmc.run import warm_up
from sbi_aalr.mcmc.step import init, step


def shift(generator, position):
    return position + 1


def log_prob_fn(theta):
    return theta.sum(dim=-1)


def propose(function, position=None):
    position = torch.zeros(3, 2, 4) if position is None else position
    return from_proposal(function).propose(
        make_generator(), position, position, log_prob_fn, ()
    )


def test_symmetric_proposal_needs_no_correction():
    proposal = propose(shift)
    assert torch.equal(proposal.position, torch.ones(3, 2, 4))
    assert proposal.log_correction == 0.0


def test_correction_is_passed_on():
    correction = torch.arange(6.0).reshape(3, 2)
    proposal = propose(lambda generator, position: (position + 1, correction))
    assert torch.equal(proposal.position, torch.ones(3, 2, 4))
    assert torch.equal(proposal.log_correction, correction)


def test_custom_kernel_goes_through_warm_up_and_mixtures():
    state = init(torch.zeros(4, 2, 3), log_prob_fn)
    kernel = mix([from_proposal(shift), random_walk.KERNEL], [0.5, 0.5])
    _, parameters, chains = warm_up(
        make_generator(), state, log_prob_fn, kernel=kernel, num_steps=20
    )
    assert parameters[0] == ()
    assert chains.theta.isfinite().all()


def test_custom_kernel_can_be_pickled():
    kernel = pickle.loads(pickle.dumps(from_proposal(shift)))
    assert isinstance(kernel, Kernel)
    state = init(torch.zeros(4, 2, 3), log_prob_fn)
    state, _ = step(make_generator(), state, log_prob_fn, kernel=kernel, parameters=())
    assert (state.position == 1).all()


def test_unconstrained_is_kept():
    assert not from_proposal(shift).unconstrained
    assert from_proposal(shift, unconstrained=True).unconstrained


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"must be a function of .* got float"):
        from_proposal(0.5)


@pytest.mark.parametrize(
    ("returned", "error", "match"),
    [
        (None, TypeError, "must return the proposed positions.*got NoneType"),
        ((torch.zeros(3, 2, 4),), TypeError, "got a tuple of 1"),
        ([torch.zeros(3, 2, 4), torch.zeros(3, 2)], TypeError, "got list"),
        (torch.zeros(3, 2), ValueError, r"position of shape \(3, 2, 4\), got \(3, 2\)"),
        (torch.zeros(3, 2, 4).double(), TypeError, "float32, got torch.float64"),
        ((torch.zeros(3, 2, 4), 0.0), TypeError, "log_correction .* got float"),
        (
            (torch.zeros(3, 2, 4), torch.zeros(3, 2, 1)),
            ValueError,
            r"log_correction of shape \(3, 2\), got \(3, 2, 1\)",
        ),
    ],
)
def test_wrong_return_value_is_named(returned, error, match):
    with pytest.raises(error, match=match):
        propose(lambda generator, position: returned)
