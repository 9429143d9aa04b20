"""The loop over draws, and the warm-up before it, for every kernel."""

import pytest
import torch
from helpers import learn, make_gaussian, make_generator

from sbi_aalr.mcmc import KERNELS, from_proposal
from sbi_aalr.mcmc.run import block_size, run, warm_up
from sbi_aalr.mcmc.step import init, step


def log_prob_gaussian(theta):
    return -theta.square().sum(dim=-1) / 2


def flatten(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [tensor for child in tree for tensor in flatten(child)]


def count_up(generator, position):
    """A chain that adds one at every step, so that its draws tell their step."""
    return position + 1


def log_prob_flat(theta):
    return torch.zeros_like(theta[..., 0])


@pytest.mark.parametrize("thin", [1, 3, 25])
def test_run_keeps_every_draw_that_thinning_leaves(thin):
    steps = []
    state, chains = run(
        make_generator(),
        init(torch.zeros(2, 1, 1), log_prob_flat),
        log_prob_flat,
        kernel=from_proposal(count_up),
        parameters=(),
        num_draws=4,
        thin=thin,
        on_step=steps.append,
    )
    expected = [thin * draw for draw in (1.0, 2.0, 3.0, 4.0)]
    assert chains.theta[1, :, 0, 0].tolist() == expected
    assert (state.position == expected[-1]).all()
    assert (chains.acceptance_rate == 1).all() and chains.accepted.all()
    assert steps == [thin] * 4


def test_acceptance_rate_is_the_mean_since_the_draw_before():
    def log_prob_fn(theta):
        return torch.where(theta[..., 0] == 0, 0.0, -torch.inf)

    def propose(generator, position):
        """Every other proposal leaves the support, the others stay where they are."""
        turn.append(None)
        return position + len(turn) % 2

    turn = []
    _, _, chains = warm_up(
        make_generator(),
        init(torch.zeros(1, 1, 1), log_prob_fn),
        log_prob_fn,
        kernel=from_proposal(propose),
        num_steps=6,
        thin=2,
    )
    assert chains.acceptance_rate.flatten().tolist() == [0.5] * 3
    assert chains.accepted.all()


def test_warm_up_keeps_every_draw_that_thinning_leaves():
    state, parameters, chains = warm_up(
        make_generator(),
        init(torch.zeros(2, 1, 1), log_prob_flat),
        log_prob_flat,
        kernel=from_proposal(count_up),
        num_steps=11,
        thin=3,
    )
    assert parameters == ()
    assert chains.theta[0, :, 0, 0].tolist() == [3.0, 6.0, 9.0]
    assert (state.position == 11).all()


def run_kernel(name, log_prob_fn, start, seed=3):
    generator = make_generator(seed)
    kernel = KERNELS[name]
    with torch.no_grad():
        state, parameters, _ = warm_up(
            generator,
            init(start, log_prob_fn),
            log_prob_fn,
            kernel=kernel,
            num_steps=30,
        )
        _, chains = run(
            generator,
            state,
            log_prob_fn,
            kernel=kernel,
            parameters=parameters,
            num_draws=20,
        )
    return chains


@pytest.mark.parametrize("name", KERNELS)
def test_same_seed_gives_same_chain(name):
    start = torch.randn(12, 2, 2, generator=make_generator())
    first, second, other = (
        run_kernel(name, log_prob_gaussian, start, seed) for seed in (3, 3, 4)
    )
    assert torch.equal(first.theta, second.theta)
    assert torch.equal(first.acceptance_rate, second.acceptance_rate)
    assert not torch.equal(first.theta, other.theta)


@pytest.mark.parametrize("name", KERNELS)
def test_observations_never_mix(name):
    """Nothing that happens to one observation changes a bit of another."""
    start = torch.randn(12, 2, 2, generator=make_generator())

    def make_log_prob_fn(centre):
        centres = torch.tensor([0.0, centre]).unsqueeze(-1)
        return lambda theta: log_prob_gaussian(theta - centres)

    near = run_kernel(name, make_log_prob_fn(0.5), start)
    far = run_kernel(name, make_log_prob_fn(-2.0), start)
    assert torch.equal(near.theta[:, :, 0], far.theta[:, :, 0])
    assert not torch.equal(near.theta[:, :, 1], far.theta[:, :, 1])


@pytest.mark.parametrize("name", KERNELS)
def test_run_leaves_parameters_unchanged(name):
    target = make_gaussian()
    generator, state, parameters = learn(target, KERNELS[name], seed=2)
    before = [tensor.clone() for tensor in flatten(parameters)]
    run(
        generator,
        state,
        target.log_prob_fn,
        kernel=KERNELS[name],
        parameters=parameters,
        num_draws=10,
    )
    assert all(map(torch.equal, flatten(parameters), before))


@pytest.mark.parametrize("name", KERNELS)
def test_only_warm_up_adapts(name):
    def refuse(*arguments):
        raise AssertionError("Adapted after warm-up.")

    kernel = KERNELS[name]._replace(tune=refuse, refit=refuse)
    generator, target = make_generator(), make_gaussian()
    state = init(target.draw(generator, 8), target.log_prob_fn)
    run(
        generator,
        state,
        target.log_prob_fn,
        kernel=kernel,
        parameters=kernel.build(generator, state.position),
        num_draws=2,
    )
    with pytest.raises(AssertionError, match="Adapted"):
        warm_up(generator, state, target.log_prob_fn, kernel=kernel, num_steps=5)


@pytest.mark.parametrize("num_steps", [0, 1, 3, 7, 20])
@pytest.mark.parametrize("name", KERNELS)
def test_short_warm_up_gives_usable_parameters(name, num_steps):
    generator, target = make_generator(), make_gaussian()
    state, parameters, chains = warm_up(
        generator,
        init(target.draw(generator, 8), target.log_prob_fn),
        target.log_prob_fn,
        kernel=KERNELS[name],
        num_steps=num_steps,
        thin=2,
    )
    kept = num_steps // max(2, block_size(KERNELS[name]))
    assert chains.theta.shape == (8, kept, 2, 2)
    assert all(tensor.isfinite().all() for tensor in flatten(parameters))
    state, _ = step(
        generator,
        state,
        target.log_prob_fn,
        kernel=KERNELS[name],
        parameters=parameters,
    )
    assert state.position.isfinite().all()


def test_draws_from_one_call_are_marked_accepted_where_the_chain_moved():
    kernel = KERNELS["independence"]
    generator = make_generator()
    position = torch.randn(3, 2, 2, generator=generator)

    def log_prob_fn(theta):
        return -theta.square().sum(dim=-1) / 2

    state = init(position, log_prob_fn)
    parameters = kernel.build(generator, torch.randn(100, 2, 2, generator=generator))
    _, chains = run(
        generator,
        state,
        log_prob_fn,
        kernel=kernel,
        parameters=parameters,
        num_draws=53,
    )
    before = torch.cat((position.unsqueeze(1), chains.theta[:, :-1]), dim=1)
    moved = (chains.theta != before).any(dim=-1)
    assert torch.equal(chains.accepted, moved)
    assert 0.3 < moved.float().mean() < 1
    torch.testing.assert_close(chains.log_prob, log_prob_fn(chains.theta))
