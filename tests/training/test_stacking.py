"""Weights of a stack: the truth alone where it is there, and never worse than one."""

import math
import time

import pytest
import torch
from exact_ratios import make_known, make_posterior_density
from linear_gaussian import draw_pairs, log_ratio

from sbi_aalr.networks import likelihood_mixture
from sbi_aalr.training import assemble as assembling
from sbi_aalr.training import stacking
from sbi_aalr.training.assemble import assemble
from sbi_aalr.training.contrasts import Pool, draw_contrasts, evaluate
from sbi_aalr.training.stacking import Evidence, find_weights, measure_loss

NUM_ROWS = 500


def first(theta, x):
    """The ratio of the first parameter alone, and of the second below."""
    return log_ratio(theta[..., :1], x[..., :1])


def second(theta, x):
    return log_ratio(theta[..., 1:], x[..., 1:])


def rough(theta, x, size=2.0):
    """The exact ratio with an error in theta and x."""
    wave = torch.sin(9 * theta[..., 0] + 7 * x[..., 1]) + torch.cos(8 * theta[..., 1])
    return log_ratio(theta, x) + size * wave


def zeros(theta, x):
    return 0 * (theta[..., 0] + x[..., 0])


@pytest.fixture(scope="module")
def pairs():
    theta, _, x = draw_pairs(NUM_ROWS, seed=1)
    return theta, x


def collect(pairs, *functions, proposals=(), num_contrasts=64):
    theta, x = pairs
    generator = torch.Generator().manual_seed(1)
    pool = Pool(draw_pairs(3_000, seed=2)[0])
    found = draw_contrasts(proposals, pool, theta, x, num_contrasts, generator)
    members = [make_known(function) for function in functions]
    return Evidence(
        torch.stack([evaluate(m, theta[None], x)[0] for m in members]),
        torch.stack([evaluate(m, found.theta, x) for m in members]),
        found.log_weight_joint,
        found.log_weight,
    )


def weigh(evidence, sizes=None):
    return find_weights(evidence, sizes or [1] * len(evidence.joint))


def measure_mean(evidence, weights):
    return float(measure_loss(evidence, torch.tensor(weights)).mean())


def test_truth_is_chosen_alone(pairs):
    for proposals in ((), (make_posterior_density(),)):
        evidence = collect(pairs, zeros, log_ratio, rough, proposals=proposals)
        weights = weigh(evidence)
        assert weights.shape == (3,) and weights.dtype == torch.float32
        assert weights[0] == 0 and weights[2] == 0
        assert float(weights[1]) == pytest.approx(1, abs=0.15)


def test_nothing_is_as_good_as_zeros_where_nothing_was_learnt(pairs):
    theta, x = pairs
    evidence = collect((theta, x.roll(1, dims=0)), log_ratio, rough)
    weights = weigh(evidence)
    # Members that mislead weigh next to nothing.
    assert float(weights.max()) < 0.15


def test_members_that_know_half_each_are_added():
    theta, _, x = draw_pairs(5 * NUM_ROWS, seed=1)
    evidence = collect((theta, x), first, zeros, second)
    weights = weigh(evidence)
    assert weights[1] == 0
    assert weights[[0, 2]].tolist() == pytest.approx([1, 1], abs=0.3)
    gain = measure_mean(evidence, [1.0, 0.0, 0.0]) - measure_mean(
        evidence, weights.tolist()
    )
    assert gain > 0.05


def test_timid_member_is_strengthened(pairs):
    evidence = collect(pairs, lambda theta, x: log_ratio(theta, x) / 1.5)
    assert float(weigh(evidence)[0]) == pytest.approx(1.5, abs=0.3)


@pytest.mark.parametrize("seed", range(6))
def test_stack_is_no_worse_than_any_member(seed):
    """Whatever the members say, up to what one standard error may hide."""
    torch.manual_seed(seed)
    count = 2 + seed % 3
    noise = 10 ** torch.linspace(-1, 1, count)
    joint = noise[:, None] * torch.randn(count, 200) + 1.5 * torch.rand(count, 1)
    contrasts = noise[:, None, None] * torch.randn(count, 32, 200)
    evidence = Evidence(joint, contrasts, torch.zeros(200), torch.zeros(32, 200))
    weights = weigh(evidence)
    assert (weights >= 0).all() and (weights <= 2).all() and weights.max() > 0
    losses = measure_loss(evidence, weights)
    for alone in torch.eye(count):
        worse = losses - measure_loss(evidence, alone)
        error = float(worse.std()) / 200**0.5
        assert float(worse.mean()) < max(2e-3, error) * count


def test_duplicates_are_dropped(pairs):
    evidence = collect(pairs, log_ratio, log_ratio, log_ratio)
    weights = weigh(evidence)
    assert int((weights > 0).sum()) == 1
    assert float(weights.sum()) == pytest.approx(1, abs=0.15)


def nearly(theta, x):
    return rough(theta, x, 0.03)


def test_smaller_member_takes_the_place_of_one_that_is_hardly_better(pairs):
    evidence = collect(pairs, nearly, log_ratio)
    for sizes, chosen in (([1, 100], 0), ([100, 1], 1)):
        weights = weigh(evidence, sizes)
        assert weights[chosen] > 0.8 and weights[1 - chosen] == 0
    # The control: one that is worse does not, however small it is.
    weights = weigh(collect(pairs, rough, log_ratio), [1, 100])
    assert weights[1] > 0.8


def test_order_of_the_members_does_not_matter(pairs):
    one = weigh(collect(pairs, first, rough, second))
    other = weigh(collect(pairs, second, first, rough))
    torch.testing.assert_close(one, other[[1, 2, 0]], atol=0.02, rtol=0)


def test_one_member_is_kept_whatever_it_says(pairs):
    weights = weigh(collect(pairs, rough))
    assert weights.shape == (1,) and 0 < float(weights[0]) <= 2


def test_loss_is_the_cross_entropy_of_the_true_one_among_all():
    joint = torch.tensor([[1.0, 0.0]])
    contrasts = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    evidence = Evidence(joint, contrasts, torch.zeros(2), torch.zeros(2, 2))
    expected = [math.log(math.e + 1 + math.e**2) - 1, math.log(3)]
    assert measure_loss(evidence, torch.ones(1)).tolist() == pytest.approx(expected)
    # Twice as strong, and no contrasts at all.
    expected = [math.log(math.e**2 + 1 + math.e**4) - 2, math.log(3)]
    assert measure_loss(evidence, 2 * torch.ones(1)).tolist() == pytest.approx(expected)
    none = evidence._replace(log_weight=torch.full((2, 2), -torch.inf))
    assert measure_loss(none, torch.ones(1)).tolist() == pytest.approx([0, 0])


def test_loss_does_not_see_a_function_of_x(pairs):
    plain = collect(pairs, log_ratio)
    moved = collect(pairs, lambda theta, x: log_ratio(theta, x) + 5 * x[..., 0])
    torch.testing.assert_close(
        measure_loss(plain, torch.ones(1)),
        measure_loss(moved, torch.ones(1)),
        rtol=1e-3,
        atol=1e-3,
    )


def test_losses_are_those_of_the_exact_ratio_at_best(pairs):
    evidence = collect(pairs, log_ratio, first, zeros)
    exact, half, none = (measure_mean(evidence, row) for row in torch.eye(3).tolist())
    assert exact < half < none == pytest.approx(math.log(65), abs=1e-4)


def assemble_known(structures, is_candidate, seed=1, seconds=0.5):
    theta, _, x = draw_pairs(2_000, seed=3)
    held_out = draw_pairs(400, seed=4)[::2]
    torch.manual_seed(1)
    return assemble(
        structures,
        is_candidate,
        Pool(theta),
        held_out,
        (theta, x),
        torch.Generator().manual_seed(seed),
        seconds,
    )


@torch.no_grad()
def test_assembled_stack_is_normalised_and_right():
    """Of a likelihood, log p(x) is what is missing, and what the offset brings in."""
    theta, theta_prime, x = draw_pairs(2_000, seed=3)
    likelihood = likelihood_mixture(1, 0)(theta, x).eval()
    density = make_posterior_density()
    assembled = assemble_known([density, likelihood], [False, True], seconds=2.0)
    assert assembled.weights[0] == 0 and assembled.stack.has_offset
    assert assembled.stack.proposal is density
    for rows in (theta, theta_prime):
        error = (assembled.stack(rows, x) - log_ratio(rows, x)).abs().mean()
        assert error < 0.2
    assert (likelihood(theta, x) - log_ratio(theta, x)).abs().mean() > 1


@torch.no_grad()
def test_assembled_stack_tells_what_each_structure_is_worth():
    density = make_posterior_density()
    structures = [density, make_known(zeros), make_known(rough)]
    found = assemble_known(structures, [True] * 3)
    assert found.weights[1] == 0 and len(found.losses) == 3
    assert int(found.losses.argmin()) == 0
    assert found.loss <= float(found.losses.min()) + 0.01
    again = assemble_known(structures, [True] * 3)
    assert torch.equal(again.weights, found.weights) and again.loss == found.loss


@torch.no_grad()
def test_best_density_proposes_though_it_is_no_candidate():
    good, bad = make_posterior_density(), make_posterior_density()
    bad.embedding_net_x.layer.linear.bias[1:3] += 1.0
    structures = [bad, make_known(), good]
    found = assemble_known(structures, [False, True, False])
    assert found.stack.proposal is good
    assert found.weights.count_nonzero() == 1 and len(found.stack.stacked) == 1


def test_member_that_hardly_weighs_goes_and_not_one_that_is_needed_less(pairs):
    def steep(theta, x):
        return 200 * second(theta, x)

    def weak(theta, x):
        return first(theta, x) / 4

    weights = weigh(collect(pairs, weak, steep))
    assert weights[1] == 0 and weights[0] > 0.5


def test_stacking_on_a_slow_machine_keeps_its_time(monkeypatch):
    """Evaluations that take a hundred times as long make it do less, and not wait."""

    def evaluate_slowly(structure, theta, x):
        time.sleep(5e-5 * theta.shape[0] * theta.shape[1])
        return evaluate(structure, theta, x)

    monkeypatch.setattr(assembling, "evaluate", evaluate_slowly)
    monkeypatch.setattr(assembling, "_FEW_SECONDS", 0.0)
    monkeypatch.setattr(assembling, "fit_correction", lambda *_: None)
    structures = [make_posterior_density(), make_known(rough)]
    began = time.perf_counter()
    assembled = assemble_known(structures, [True, True], seconds=1.5)
    # All that is wanted would take eleven seconds.
    assert time.perf_counter() - began < 6.0
    assert int(assembled.losses.argmin()) == 0 and assembled.weights[0] > 0


def test_few_rows_do_not_say_that_weights_should_sum_to_more_than_one(
    pairs, monkeypatch
):
    """A ratio that is too weak is strengthened, if rows are enough to know it by."""

    def weak(theta, x):
        return log_ratio(theta, x) / 3

    theta, x = pairs
    few, many = (collect((theta[:count], x[:count]), weak) for count in (12, NUM_ROWS))
    assert 1 < float(weigh(few)[0]) < 1.2
    assert float(weigh(many)[0]) > 1.4
    monkeypatch.setattr(stacking, "_MOST_EXCESS", math.inf)
    assert float(weigh(few)[0]) > 1.3
    # Less than one is left as it is found: members of few simulations over-fit.
    monkeypatch.undo()
    strong = collect((theta[:12], x[:12]), lambda theta, x: 3 * log_ratio(theta, x))
    assert float(weigh(strong)[0]) < 0.7


def test_one_member_is_kept_where_nothing_is_better_than_the_prior():
    generator = torch.Generator().manual_seed(0)
    joint = 2 * torch.randn(2, 200, generator=generator) - 1
    contrasts = 2 * torch.randn(2, 32, 200, generator=generator)
    evidence = Evidence(joint, contrasts, torch.zeros(200), torch.zeros(32, 200))
    weights = find_weights(evidence, [10, 100])
    # A stack of none could not be built.
    assert int((weights > 0).sum()) == 1 and float(weights.max()) < 0.1
