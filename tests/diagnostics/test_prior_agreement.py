"""Chains beside weighted prior draws: a missed mode is found, nothing else."""

import numpy as np
import pytest

from sbi_aalr.diagnostics.prior_agreement import compare_with_prior

RNG = np.random.default_rng(0)
PRIOR = RNG.uniform(-3, 3, (20_000, 2))


def log_ratio(theta, width=0.3):
    """Two modes in the first parameter, one in the second."""
    return -0.5 * (((np.abs(theta) - [1.0, 0.0]) / width) ** 2).sum(axis=1)


def draw(count=2_000, share=0.5, width=0.3, seed=1):
    rng = np.random.default_rng(seed)
    sign = np.where(rng.random(count) < share, 1.0, -1.0)
    theta = width * rng.standard_normal((count, 2))
    theta[:, 0] = sign * (1 + theta[:, 0])
    return theta[:, None]


def compare(theta, ess=2_000.0, **changes):
    return compare_with_prior(
        theta,
        np.full((1, 2), ess),
        PRIOR,
        log_ratio(PRIOR, **changes)[:, None],
        observations=np.arange(1),
        parameter_names=["a", "b"],
    )


@pytest.mark.parametrize("seed", range(10))
def test_right_chains_agree(seed):
    found = compare(draw(seed=seed))
    assert found.judged.all() and found.passed
    assert "show the same posterior" in found.verdict


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_modes_that_are_missed_or_miscounted_are_found(share):
    found = compare(draw(share=share))
    assert found.passed is False
    assert found.distance[0, 0] == pytest.approx(share - 0.5, abs=0.05)
    assert "elsewhere in `a`" in found.verdict and "`num_candidates`" in found.verdict


def test_few_effective_draws_are_not_enough_to_judge():
    # So narrow that hardly a prior draw counts.
    found = compare(draw(width=0.01), width=0.01)
    assert found.passed is None
    assert "Too few prior draws count" in found.verdict
    # Chains worth four draws say nothing either way.
    assert compare(draw(share=0.7), ess=4.0).passed
