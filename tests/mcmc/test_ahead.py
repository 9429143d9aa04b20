"""Steps that are looked ahead at: in turns, all proposals used once, and unbiased."""

import pytest
import torch
from helpers import LIMIT, make_generator, measure_errors

from sbi_aalr.mcmc import KERNELS, from_proposal, mix
from sbi_aalr.mcmc.ahead import advance, join_steps, look_ahead
from sbi_aalr.mcmc.kernel import Info, State
from sbi_aalr.mcmc.kernels import independence
from sbi_aalr.mcmc.run import run
from sbi_aalr.mcmc.step import init

NOBODY = torch.zeros(2, 3, 1)


def flat(position):
    return torch.zeros_like(position[..., 0])


def make_counter(log_q=0.0):
    """A density whose draws are 1, 2, 3 and so on; where chains stand, `log_q`."""

    def draw(generator, parameters, num_samples):
        numbers = torch.arange(1.0, num_samples + 1).view(-1, 1, 1)
        return numbers.expand(-1, 3, 1), torch.zeros(num_samples, 3)

    def log_density(parameters, position):
        return torch.full_like(position[..., 0], log_q)

    return independence.make_kernel(lambda *_: (), draw, log_density)


def move(generator, position):
    """Move by a thousand, so that it shows who made a step."""
    return position + 1_000


def test_every_proposal_is_used_once_and_in_its_chain():
    steps = look_ahead(
        make_generator(),
        flat,
        kernel=make_counter(),
        parameters=(),
        num_chains=2,
        num_steps=10,
    )
    state, paths, done = init(NOBODY, flat), [], 0
    for count in (3, 1, 6):
        state, info = steps(state, done, count)
        paths.append(info.path.position)
        done += count
    # Of a flat density each is taken.
    expected = torch.arange(1.0, 21).view(10, 2, 1, 1).expand(-1, -1, 3, -1)
    assert torch.equal(torch.cat(paths), expected)
    assert torch.equal(state.position, expected[-1])


def test_density_where_the_chain_stands_decides():
    kernel = make_counter(log_q=-50.0)
    _, info = advance(
        make_generator(),
        init(NOBODY, flat),
        flat,
        kernel=kernel,
        parameters=(),
        num_steps=5,
    )
    # Weights fall from exp(50) to one: no proposal is ever as good.
    assert not info.accepted.any() and (info.path.position == 0).all()


def test_parts_take_turns_within_a_long_run():
    kernel = mix([make_counter(), from_proposal(move)], [0.8, 0.2])
    _, info = advance(
        make_generator(),
        init(NOBODY, flat),
        flat,
        kernel=kernel,
        parameters=((), ()),
        num_steps=60,
    )
    position = info.path.position[:, 0, 0, 0]
    is_move = position.diff(prepend=torch.zeros(1)) >= 1_000
    by_ten = is_move.view(6, 10).sum(dim=1)
    assert by_ten.tolist() == [2] * 6
    # Of 48 proposals for each of two chains, the first chain has the odd ones.
    assert (position[~is_move] % 1_000).tolist() == list(range(1, 96, 2))
    assert [len(part.path.log_prob) for part in info.parts] == [48, 12]


def test_reports_are_joined_by_their_steps():
    def report(rate, count, weight):
        path = State(torch.full((count, 1, 1, 1), rate), torch.zeros(count, 1, 1))
        return Info(
            torch.full((1, 1), rate),
            torch.tensor([[weight is None]]),
            State(torch.full((count, 1, 1, 1), rate), torch.zeros(count, 1, 1)),
            log_weight=weight and torch.full((count, 1, 1), weight),
            path=path,
        )

    first, second = report(0.5, 3, 1.0), report(0.1, 1, 2.0)
    both = join_steps([first, second])
    assert float(both.acceptance_rate) == pytest.approx(0.4)
    assert both.log_weight.flatten().tolist() == [1, 1, 1, 2]
    assert len(both.proposal.position) == len(both.path.position) == 4
    nested = join_steps(
        [first._replace(parts=(first, None)), second._replace(parts=(second, second))]
    )
    assert nested.parts[0].log_weight.flatten().tolist() == [1, 1, 1, 2]
    assert nested.parts[1] is second
    assert join_steps([first]) is first


def log_skewed(position):
    """Exponential of mean one in each dimension."""
    inside = (position > 0).all(dim=-1)
    return torch.where(inside, -position.sum(dim=-1), -torch.inf)


def sample_few(kernel):
    """One observation and two chains, so that many steps are looked ahead at."""
    generator = make_generator(1)
    starts = torch.rand(200, 1, 2, generator=generator).log().neg()
    parameters = kernel.build(generator, starts)
    state = init(starts[:2], log_skewed)
    _, chains = run(
        generator,
        state,
        log_skewed,
        kernel=kernel,
        parameters=parameters,
        num_draws=10_000,
        thin=3,
    )
    features = torch.cat((chains.theta, chains.theta.square()), dim=-1)
    return measure_errors(features, [[1.0, 1.0, 2.0, 2.0]], min_ess=200).max()


def test_no_more_rows_are_evaluated_at_once_than_allowed():
    kernel, seen = KERNELS["jump_walk"], []

    def count(position):
        seen.append(position[..., 0].numel())
        return log_skewed(position)

    starts = torch.rand(100, 1, 2, generator=make_generator(1)).log().neg()
    parameters = kernel.build(make_generator(), starts)
    for max_rows, most in ((None, 4_096), (500, 500), (1, 40)):
        run(
            make_generator(),
            init(starts[:4], log_skewed),
            count,
            kernel=kernel,
            parameters=parameters,
            num_draws=2_000,
            max_rows=max_rows,
        )
        assert most / 2 < max(seen) <= most
        seen.clear()


@pytest.mark.parametrize("name", ["jump_walk", "independence"])
def test_long_runs_leave_the_target_invariant(name):
    assert sample_few(KERNELS[name]) < LIMIT


def test_a_density_that_is_wrong_where_chains_stand_is_caught():
    def forget(parameters, position):
        return torch.zeros_like(position[..., 0])

    broken = independence.make_kernel(independence.build, independence.draw, forget)
    # It is asked whenever another part has moved the chains.
    parts, shares = [broken, KERNELS["random_walk"]], [0.8, 0.2]
    assert sample_few(mix(parts, shares)) > 2 * LIMIT
    assert sample_few(mix([KERNELS["independence"], parts[1]], shares)) < LIMIT
