"""Steps that are looked ahead at are those that would be made one by one."""

import torch

from sbi_aalr.mcmc import prefetch
from sbi_aalr.mcmc.step import init


class Target:
    """A skewed density with holes, which counts its calls."""

    num_cheap_rows = 128

    def __init__(self):
        self.num_calls = 0

    def __call__(self, position):
        self.num_calls += 1
        first = position[..., 0]
        log_prob = -position.square().sum(dim=-1) / 2 + first.sin()
        log_prob = torch.where(first > 1.5, torch.nan, log_prob)
        return torch.where(first < -1.5, torch.inf, log_prob)


def make(num_chains, num_observations, num_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(num_chains, num_observations, 2, generator=generator)
    shape = (num_steps, *position.shape)
    return generator, position, torch.randn(shape, generator=generator)


def walk(generator, state, offsets, target):
    draw = iter(offsets).__next__
    return prefetch.walk(generator, state, draw, target, len(offsets))


def walk_one_by_one(generator, state, offsets, target):
    path, rates = [], []
    position, log_prob = state
    for offset in offsets:
        threshold = torch.rand(log_prob.shape, generator=generator)
        there = target(position + offset)
        rate = (there - log_prob).exp().clamp(max=1)
        rate = torch.where(there.isfinite(), rate, 0.0)
        accepted = threshold < rate
        position = torch.where(accepted[..., None], position + offset, position)
        log_prob = torch.where(accepted, there, log_prob)
        path.append(position)
        rates.append(rate)
    return torch.stack(path), torch.stack(rates).mean(dim=0), accepted


def test_steps_are_those_made_one_by_one():
    for shape in ((1, 1, 20), (4, 2, 23), (4, 40, 5)):
        generator, position, offsets = make(*shape)
        state, seed = init(position, Target()), generator.get_state()
        found, info = walk(generator, state, offsets, Target())
        generator.set_state(seed)
        path, rate, accepted = walk_one_by_one(generator, state, offsets, Target())
        assert torch.equal(info.path.position, path)
        assert torch.equal(found.position, path[-1])
        assert torch.equal(info.accepted, accepted)
        assert torch.allclose(info.acceptance_rate, rate)
        assert 0 < info.acceptance_rate.mean() < 1
        assert torch.equal(found.log_prob, Target()(found.position))
        proposed = info.proposal.position
        assert torch.equal((proposed == found.position).all(dim=-1), accepted)


def test_few_chains_take_few_calls_and_many_no_more_evaluations():
    one, few, many = (4, 1, 20), (8, 1, 20), (32, 4, 20)
    for shape, cheap, expected in (
        (one, 128, 4),
        (few, 128, 5),
        (many, 128, 20),
        (one, 0, 20),
    ):
        generator, position, offsets = make(*shape)
        state, target = init(position, Target()), Target()
        target.num_cheap_rows = cheap
        walk(generator, state, offsets, target)
        assert target.num_calls == expected


def test_walk_keeps_its_target():
    torch.manual_seed(0)
    generator, position = torch.Generator().manual_seed(1), torch.randn(64, 1, 1)
    offsets = 2 * torch.randn(400, 64, 1, 1)

    def log_prob_fn(position):
        return -position.abs().squeeze(-1)

    log_prob_fn.num_cheap_rows = 1_000
    state = init(position, log_prob_fn)
    _, info = walk(generator, state, offsets, log_prob_fn)
    draws = info.path.position[20:]
    # Of a Laplace density the mean of |z| is 1 and that of z^2 is 2.
    assert abs(draws.abs().mean() - 1) < 0.05
    assert abs(draws.square().mean() - 2) < 0.2
