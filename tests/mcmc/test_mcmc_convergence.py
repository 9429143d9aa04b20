"""R-hat and ESS in torch are those of arviz-stats, which are computed here as well."""

import arviz_stats
import numpy as np
import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc import convergence

ALL = (convergence.rhat, convergence.ess_bulk, convergence.ess_tail)
AXES = {"chain_axis": 0, "draw_axis": 1}


def draw_chains(chains, draws, *rest, seed=0, memory=0.7):
    """Autoregressive chains in double precision, centred a little apart."""
    generator = make_generator(seed)
    shape = (chains, draws, *(rest or (2, 3)))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    values = [noise[:, 0]]
    for index in range(1, draws):
        values.append(memory * values[-1] + noise[:, index])
    offset = torch.randn(chains, 1, *shape[2:], generator=generator).double()
    return torch.stack(values, dim=1) + 0.1 * offset


def make_cases():
    ties = draw_chains(4, 100).round()
    one_stuck = draw_chains(6, 80)
    one_stuck[2] = one_stuck[2, :1]
    return {
        "plain": draw_chains(4, 200),
        "odd draws": draw_chains(4, 101),
        "odd halves": draw_chains(3, 50),
        "few draws": draw_chains(4, 4),
        "five draws": draw_chains(5, 5),
        "seven draws": draw_chains(6, 7),
        "many chains": draw_chains(150, 30),
        "antithetic": draw_chains(4, 300, memory=-0.8),
        "slow": draw_chains(4, 300, memory=0.99),
        "random walk": draw_chains(2, 64, memory=1.0),
        "ties": ties,
        "two values": (draw_chains(4, 100) > 1).double(),
        "one stuck chain": one_stuck,
        "heavy tails": draw_chains(4, 150) ** 5,
        "far from zero": draw_chains(4, 150) + 1e6,
        "one observation": draw_chains(4, 120, 1, 1),
    }


CASES = make_cases()


@pytest.mark.parametrize("case", CASES)
def test_r_hat_is_that_of_arviz(case):
    theta = CASES[case]
    expected = arviz_stats.rhat(theta.numpy(), **AXES)
    # The two draws next to the median are as far from it, but for rounding, which
    # decides whether they share a rank.
    rtol = 1e-3 if case == "heavy tails" else 1e-8
    np.testing.assert_allclose(convergence.rhat(theta), expected, rtol=rtol)


@pytest.mark.parametrize("case", CASES)
def test_bulk_ess_is_that_of_arviz(case):
    theta = CASES[case]
    expected = arviz_stats.ess(theta.numpy(), method="bulk", **AXES)
    np.testing.assert_allclose(convergence.ess_bulk(theta), expected, rtol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_tail_ess_is_that_of_arviz(case):
    theta = CASES[case]
    expected = arviz_stats.ess(theta.numpy(), method="tail", prob=(0.05, 0.95), **AXES)
    np.testing.assert_allclose(convergence.ess_tail(theta), expected, rtol=1e-8)


@pytest.mark.parametrize(("chains", "groups"), [(8, 2), (12, 4), (160, 16)])
@pytest.mark.parametrize("draws", [4, 51, 80])
def test_nested_r_hat_is_that_of_arviz(chains, draws, groups):
    theta = draw_chains(chains, draws, 2, 1)
    superchain = torch.stack(
        [
            torch.randperm(chains, generator=make_generator(seed)) % groups
            for seed in range(2)
        ],
        dim=1,
    )
    r_hat = convergence.nested_rhat(theta, superchain)
    for observation in range(2):
        expected = arviz_stats.rhat_nested(
            theta[:, :, observation, 0].numpy(),
            superchain_ids=superchain[:, observation].numpy(),
            **AXES,
        )
        assert r_hat[observation, 0].item() == pytest.approx(float(expected))


def test_nested_r_hat_passes_many_short_chains_and_fails_a_group_apart():
    theta = draw_chains(512, 20, 1, 1)
    superchain = torch.arange(512).unsqueeze(1) // 32
    assert convergence.rhat(theta).item() > 1.01
    assert convergence.nested_rhat(theta, superchain).item() < 1.01
    theta[:32] += 3.0
    assert convergence.nested_rhat(theta, superchain).item() > 1.05


def test_interleaved_chains_are_not_mistaken_for_chains():
    """Chains in two places: mixing up the axes would hide it."""
    theta = torch.randn(4, 250, 1, 1, generator=make_generator())
    theta[2:] += 3.0
    assert convergence.rhat(theta).item() > 1.5
    assert convergence.ess_bulk(theta).item() < 20
    interleaved = theta.transpose(0, 1).reshape(4, 250, 1, 1)
    assert convergence.rhat(interleaved).item() < 1.01
    assert convergence.ess_bulk(interleaved).item() > 400


def test_ess_of_an_autoregressive_chain_is_the_known_one():
    memory = 0.8
    theta = draw_chains(16, 4_000, 1, 1, memory=memory)
    theta = theta - theta.mean(dim=1, keepdim=True)
    expected = 16 * 4_000 * (1 - memory) / (1 + memory)
    assert convergence.ess_bulk(theta).item() == pytest.approx(expected, rel=0.1)


def test_float32_agrees_with_float64():
    theta = draw_chains(100, 60)
    for function in ALL:
        torch.testing.assert_close(
            function(theta.float()).double(), function(theta), rtol=1e-3, atol=0
        )


def measure_all(theta, superchain):
    return [
        convergence.rhat(theta),
        convergence.ess_bulk(theta),
        convergence.ess_tail(theta),
        convergence.nested_rhat(theta, superchain),
    ]


def test_observation_alone_gives_what_it_gives_among_others():
    theta = draw_chains(6, 60, 7, 2)
    superchain = torch.stack(
        [torch.randperm(6, generator=make_generator(seed)) % 3 for seed in range(7)],
        dim=1,
    )
    whole = measure_all(theta, superchain)
    for index in range(7):
        one = slice(index, index + 1)
        alone = measure_all(theta[:, :, one], superchain[:, one])
        for expected, value in zip(whole, alone, strict=True):
            assert expected.shape == (7, 2)
            torch.testing.assert_close(value[0], expected[index])


@pytest.mark.slow
def test_more_draws_than_are_measured_at_once_keep_their_order():
    theta = torch.randn(600, 4_000, 8, 1, generator=make_generator())
    theta[:, :, 7] = theta[:, :, 7].cumsum(dim=1)
    ess = convergence.ess_bulk(theta)
    assert ess.shape == (8, 1)
    assert (ess[:7] > 1e6).all()
    assert ess[7] < 1e5
    torch.testing.assert_close(convergence.ess_bulk(theta[:, :, 7:]), ess[7:])


def test_what_is_not_defined_is_nan():
    assert convergence.rhat(draw_chains(1, 50)).isnan().all()
    assert convergence.ess_bulk(draw_chains(1, 50)).isfinite().all()
    for function in ALL:
        assert function(draw_chains(4, 3)).isnan().all()
        assert function(torch.full((4, 50, 2, 3), 0.1)).isnan().all()
        spoiled = draw_chains(4, 50)
        spoiled[1, 7, 0, 1] = torch.nan
        assert not (function(spoiled)[0, 1] <= 1.01)
        assert not (function(spoiled)[0, 1] >= 400)


def test_chains_that_never_move_apart_from_each_other_are_infinite():
    theta = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 50, 1, 1)
    assert convergence.rhat(theta).item() == torch.inf
    assert convergence.count_stuck_chains(theta).item() == 4


def test_stuck_chains_are_counted():
    theta = draw_chains(5, 30)
    assert not convergence.count_stuck_chains(theta).any()
    theta[1, :, 0, 2] = 3.0
    theta[4, :, 0, 2] = -3.0
    assert convergence.count_stuck_chains(theta).tolist() == [[0, 0, 2], [0, 0, 0]]
    assert not convergence.count_stuck_chains(theta[:, :3]).any()
