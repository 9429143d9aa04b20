"""The default kernel: its two parts share one mixture."""

import pytest
import torch
from helpers import learn, make_generator, make_skewed

from sbi_aalr.mcmc import KERNELS
from sbi_aalr.mcmc.step import init, step
from sbi_aalr.mcmc.student_mixture import log_density

KERNEL = KERNELS["jump_walk"]


def test_walk_takes_the_shapes_that_the_jumps_have_learned():
    target = make_skewed()
    _, state, (fit, walk) = learn(target, KERNEL, seed=1)
    starts = target.draw(make_generator(1), 64)
    first, first_walk = KERNEL.build(make_generator(1), starts)
    there = state.position
    learned = log_density(fit.mixture, there)
    assert torch.equal(log_density(walk.mixture, there), learned)
    assert torch.equal(
        log_density(first_walk.mixture, there), log_density(first.mixture, there)
    )
    # The control: there was something to learn.
    assert not torch.allclose(log_density(first.mixture, there), learned)


@pytest.fixture(scope="module")
def info():
    """Report of one step of many chains that stand where the target has its mass."""
    target = make_skewed()
    generator, _, parameters = learn(target, KERNEL, seed=1)
    state = init(target.draw(generator, 2_000), target.log_prob_fn)
    _, info = step(
        generator, state, target.log_prob_fn, kernel=KERNEL, parameters=parameters
    )
    return info


def test_nineteen_steps_in_twenty_are_jumps(info):
    assert (info.component == 0).double().mean().item() == pytest.approx(0.95)


def test_walk_reaches_its_acceptance_rate(info):
    walked = info.acceptance_rate[info.component == 1]
    # It is tuned by the few steps that are its own.
    assert walked.mean().item() == pytest.approx(0.3, abs=0.08)
