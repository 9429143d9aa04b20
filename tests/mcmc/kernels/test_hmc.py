"""Hamiltonian Monte Carlo: its integrator, its failures and its speed."""

import math

import pytest
import torch
from helpers import LIMIT, make_generator, make_skewed, measure_errors

from sbi_aalr.mcmc import KERNELS, convergence
from sbi_aalr.mcmc.kernels import hmc
from sbi_aalr.mcmc.run import run, warm_up
from sbi_aalr.mcmc.step import init, step

KERNEL = KERNELS["hmc"]


def integrate(position, velocity, log_prob_fn, step_size, num_steps):
    dim = position.shape[-1]
    cholesky = torch.eye(dim, dtype=position.dtype).expand(position.shape[1], dim, dim)
    return hmc.leapfrog(
        position,
        velocity,
        log_prob_fn,
        cholesky=cholesky,
        step_size=torch.full(position.shape[:2], step_size, dtype=position.dtype),
        num_steps=num_steps,
    )


def draw_start(seed=0, num_chains=200):
    generator = make_generator(seed)
    position = make_skewed().draw(generator, num_chains).double()
    velocity = torch.randn(num_chains, 2, 2, generator=generator).double()
    return position, velocity


def test_energy_error_is_of_second_order_in_step_size():
    log_prob_fn = make_skewed().log_prob_fn
    position, velocity = draw_start()
    before = velocity.square().sum(-1) / 2 - log_prob_fn(position)
    errors = []
    for refinement in (1, 2, 4):
        end, end_velocity = integrate(
            position, velocity, log_prob_fn, 0.1 / refinement, 13 * refinement
        )
        after = end_velocity.square().sum(-1) / 2 - log_prob_fn(end)
        errors.append((after - before).square().mean().sqrt().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_leapfrog_is_reversible():
    log_prob_fn = make_skewed().log_prob_fn
    position, velocity = draw_start()
    end, end_velocity = integrate(position, velocity, log_prob_fn, 0.1, 10)
    assert (end - position).abs().max() > 0.1
    back, back_velocity = integrate(end, -end_velocity, log_prob_fn, 0.1, 10)
    torch.testing.assert_close(back, position, rtol=0, atol=1e-10)
    torch.testing.assert_close(-back_velocity, velocity, rtol=0, atol=1e-10)


def test_leapfrog_keeps_volume():
    log_prob_fn = make_skewed().log_prob_fn
    start = torch.tensor([0.3, -0.2, 0.5, 1.0], dtype=torch.float64)

    def move(state):
        position = state[:2].expand(1, 2, 2)
        ends = integrate(position, state[2:].expand(1, 2, 2), log_prob_fn, 0.2, 5)
        return torch.cat([end[0, 0] for end in ends])

    bump = 1e-5 * torch.eye(4, dtype=torch.float64)
    columns = [(move(start + b) - move(start - b)) / 2e-5 for b in bump]
    determinant = torch.linalg.det(torch.stack(columns))
    assert determinant.item() == pytest.approx(1, abs=1e-6)


def test_proposal_carries_the_change_of_kinetic_energy():
    """With the true energy conserved, differences of log-density cancel it."""
    log_prob_fn = make_skewed().log_prob_fn
    position, _ = draw_start()
    parameters = KERNEL.build(make_generator(), position)
    small = parameters.step_size._replace(
        log_scale=torch.full_like(parameters.step_size.log_scale, math.log(1e-3))
    )
    parameters = parameters._replace(step_size=small)
    proposal = KERNEL.propose(
        make_generator(), position, position, log_prob_fn, parameters
    )
    gap = log_prob_fn(proposal.position) - log_prob_fn(position)
    assert gap.abs().max() > 1e-4
    torch.testing.assert_close(proposal.log_correction, -gap, rtol=0, atol=1e-6)


def test_steps_are_jittered_from_chain_to_chain():
    position = torch.zeros(1_000, 1, 1)
    proposal = KERNEL.propose(
        make_generator(),
        position,
        position,
        lambda theta: 0 * theta.sum(dim=-1),
        KERNEL.build(make_generator(), position),
    )
    # Without force, a chain goes as far as its step size, its velocity and steps say.
    velocity = torch.empty_like(position).normal_(generator=make_generator())
    jitter = proposal.position / velocity
    assert jitter.max() / jitter.min() > 4


def turn_nan(theta):
    """Become NaN, gradient and all, beyond one."""
    return (1 - theta[..., 0]).log() - theta.square().sum(dim=-1) / 2


def turn_infinite(theta):
    """Become infinite, gradient and all, a little before one."""
    return (1_000 * (theta[..., 0] - 0.9)).exp() - theta.square().sum(dim=-1) / 2


@pytest.mark.parametrize("turn_bad", [turn_nan, turn_infinite])
def test_bad_gradient_is_a_rejection(turn_bad):
    """The chains that it does not concern move on."""

    def log_prob_fn(theta):
        assert theta.isfinite().all()
        return turn_bad(theta)

    generator = make_generator()
    start = torch.randn(500, 1, 2, generator=generator).clamp(max=0.5)
    state = init(start, log_prob_fn)
    parameters = KERNEL.build(generator, start)
    rejections = 0
    for _ in range(5):
        state, info = step(
            generator, state, log_prob_fn, kernel=KERNEL, parameters=parameters
        )
        assert info.proposal.position.isfinite().all()
        assert state.log_prob.isfinite().all()
        assert (state.position[..., 0] <= 1).all()
        rejections += int((info.acceptance_rate == 0).sum())
    assert 20 < rejections < 2_000


def test_nan_gradient_at_the_start_keeps_the_chain_there():
    def log_prob_fn(theta):
        return (theta - theta).abs().sqrt().sum(dim=-1)  # Zero, with gradient NaN.

    state = init(torch.ones(3, 1, 2), log_prob_fn)
    parameters = KERNEL.build(make_generator(), state.position)
    new, info = step(
        make_generator(), state, log_prob_fn, kernel=KERNEL, parameters=parameters
    )
    assert torch.equal(new.position, state.position)
    assert not info.accepted.any()


def test_log_density_without_gradient_is_named():
    position = torch.zeros(4, 1, 2)
    parameters = KERNEL.build(make_generator(), position)
    with pytest.raises(ValueError, match="returned one without gradient"):
        KERNEL.propose(
            make_generator(),
            position,
            position,
            lambda theta: theta.detach().sum(dim=-1),
            parameters,
        )


def test_hmc_leaves_no_gradients_behind():
    weight = torch.ones(2, requires_grad=True)

    def log_prob_fn(theta):
        return -(weight * theta.square()).sum(dim=-1)

    with torch.no_grad():
        state = init(torch.randn(4, 1, 2, generator=make_generator()), log_prob_fn)
        parameters = KERNEL.build(make_generator(), state.position)
        state, info = step(
            make_generator(), state, log_prob_fn, kernel=KERNEL, parameters=parameters
        )
    assert not state.position.requires_grad
    assert not info.acceptance_rate.requires_grad
    assert weight.grad is None


def test_hmc_is_fast_on_50_dimensions_with_correlation_099():
    dim, rho = 50, 0.99
    covariance = torch.full((dim, dim), rho) + (1 - rho) * torch.eye(dim)
    precision = torch.linalg.inv(covariance.double()).float()

    def log_prob_fn(theta):
        return -((theta @ precision) * theta).sum(dim=-1) / 2

    generator = make_generator(1)
    # From far too wide starts, as tempered weights would give them.
    start = 3 * torch.randn(40, 1, dim, generator=generator)
    with torch.no_grad():
        state, parameters, _ = warm_up(
            generator,
            init(start, log_prob_fn),
            log_prob_fn,
            kernel=KERNEL,
            num_steps=400,
        )
        _, chains = run(
            generator,
            state,
            log_prob_fn,
            kernel=KERNEL,
            parameters=parameters,
            num_draws=250,
        )
    assert chains.acceptance_rate.mean().item() == pytest.approx(0.8, abs=0.1)
    ess = convergence.ess_bulk(chains.theta).min()
    assert ess > 0.5 * 40 * 250
    assert convergence.rhat(chains.theta).max() < 1.01
    features = torch.cat((chains.theta, chains.theta.square()), dim=-1)
    expected = torch.tensor([[0.0] * dim + [1.0] * dim])
    assert measure_errors(features, expected, min_ess=400).max() < LIMIT
