"""Scales are learned in warm-up, reach their target and are then left alone."""

from typing import NamedTuple

import pytest
import torch
from helpers import learn, make_gaussian, make_generator, make_skewed

from sbi_aalr.mcmc import KERNELS, Info, State
from sbi_aalr.mcmc.adaptation import DualAveraging, freeze, restart, start, tune, update
from sbi_aalr.mcmc.run import run

TARGETS = {
    "random_walk": 0.234,
    "adaptive_random_walk": 0.234,
    "differential_evolution": 0.234,
    "hmc": 0.8,
}


def learn_from(respond, num_steps=500, scale=1.0):
    """Adapt two observations to responses that differ between them."""
    state = start(torch.full((2,), scale))
    for _ in range(num_steps):
        state = update(state, respond(state.log_scale), target=0.3)
    return state


def respond_smoothly(log_scale):
    """Acceptance rates that are 0.3 at the log-scales 1 and -2."""
    gap = log_scale - torch.tensor([1.0, -2.0])
    return torch.sigmoid(torch.logit(torch.tensor(0.3)) - gap).expand(5, 2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_dual_averaging_reaches_its_target(scale):
    state = learn_from(respond_smoothly, scale=scale)
    assert state.log_scale_average.tolist() == pytest.approx([1, -2], abs=0.1)
    assert (state.steps == 500).all()


def test_dual_averaging_reaches_its_target_through_noise():
    generator = make_generator()

    def respond(log_scale):
        rate = respond_smoothly(log_scale)
        return torch.bernoulli(rate, generator=generator)

    state = learn_from(respond, num_steps=2_000)
    assert state.log_scale_average.tolist() == pytest.approx([1, -2], abs=0.2)


def test_first_update_by_hand():
    state = update(start(torch.ones(1)), torch.full((3, 1), 0.8), target=0.3)
    error = (0.3 - 0.8) / (1 + 10)
    assert state.error.item() == pytest.approx(error)
    assert state.log_scale.item() == pytest.approx(-error / 0.05)
    assert state.log_scale_average.item() == pytest.approx(-error / 0.05)
    assert state.steps.item() == 1


def test_nan_rates_are_left_out():
    state = start(torch.ones(3))
    nan = torch.nan
    rate = torch.tensor([[0.9, nan, nan], [0.9, 0.9, nan]])
    new = update(state, rate, target=0.3)
    assert new.log_scale[0] == new.log_scale[1] > 0
    for field in DualAveraging._fields:
        assert getattr(new, field)[2] == getattr(state, field)[2]
        assert getattr(new, field).isfinite().all()
    late = update(learn_from(respond_smoothly), torch.full((5, 2), nan), target=0.3)
    before = learn_from(respond_smoothly)
    assert torch.equal(late.log_scale_average, before.log_scale_average)
    assert torch.allclose(late.log_scale, before.log_scale)


def test_restart_begins_from_the_average():
    state = learn_from(respond_smoothly)
    again = restart(state)
    for field in ("log_scale", "log_scale_average", "anchor"):
        torch.testing.assert_close(getattr(again, field), state.log_scale_average)
    assert not again.error.any()
    assert not again.steps.any()


class Scaled(NamedTuple):
    """Parameters of a kernel with one scale."""

    width: torch.Tensor
    step_size: DualAveraging


def test_freeze_takes_the_average_wherever_it_is():
    state = update(learn_from(respond_smoothly), torch.ones(5, 2), target=0.3)
    assert not torch.allclose(state.log_scale, state.log_scale_average)
    other = torch.arange(2)
    frozen = freeze((other, (Scaled(other, state),), ()))
    assert frozen[0] is other
    assert frozen[2] == ()
    assert isinstance(frozen[1][0], Scaled)
    assert frozen[1][0].width is other
    scale = frozen[1][0].step_size
    assert isinstance(scale, DualAveraging)
    assert torch.equal(scale.log_scale, state.log_scale_average)


def test_tune_moves_the_scale_and_nothing_else():
    rate = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    info = Info(rate, rate > 0.5, State(rate.unsqueeze(-1), rate))
    before = Scaled(torch.ones(2), start(torch.ones(2)))
    after = tune(before, info, target=0.3)
    assert isinstance(after, Scaled)
    assert after.width is before.width
    higher, lower = after.step_size.log_scale
    assert higher > 0 > lower
    alone = update(before.step_size, rate, target=0.3)
    assert torch.equal(after.step_size.log_scale, alone.log_scale)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("make_target", [make_gaussian, make_skewed])
def test_kernel_reaches_its_acceptance_rate(name, make_target):
    target, kernel = make_target(), KERNELS[name]
    generator, state, parameters = learn(
        target, kernel, seed=2, num_chains=50, num_steps=250
    )
    _, chains = run(
        generator,
        state,
        target.log_prob_fn,
        kernel=kernel,
        parameters=parameters,
        num_draws=100,
    )
    rate = chains.acceptance_rate.mean(dim=(0, 1))
    # Differential evolution reaches it with its jumps of scale one, too.
    assert rate.tolist() == pytest.approx([TARGETS[name]] * 2, abs=0.06)
