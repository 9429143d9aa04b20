"""Posterior predictive p-values: unremarkable for the exact posterior, and not else."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch.distributions import MultivariateNormal

from sbi_aalr.diagnostics import predictive_check, to_datatree
from sbi_aalr.seeding import seeded

PRIOR = MultivariateNormal(torch.zeros(2), 4 * torch.eye(2))
FEATURES = 20


def simulate(theta):
    """Each parameter seen ten times through noise of width one."""
    x = theta.repeat_interleave(FEATURES // 2, dim=1)
    return x + torch.randn_like(x)


def make_tree(x, width=1.0, shift=0.0, batched=False):
    """Exact draws for rows of x, or draws that are spoiled."""
    precision = 0.25 + FEATURES / 2
    mean = x.reshape(len(x), 2, -1).sum(dim=2) / precision + shift
    draws = mean + width * precision**-0.5 * torch.randn(4, 200, *mean.shape)
    return to_datatree(
        draws if batched else draws[:, :, 0], observed_data=x if batched else x[0]
    )


def check(seed=1, noise=1.0, count=1, **spoiled):
    with seeded(seed):
        theta = PRIOR.sample((count,))
        x = theta.repeat_interleave(FEATURES // 2, dim=1)
        x = x + noise * torch.randn_like(x)
        tree = make_tree(x, batched=count > 1, **spoiled)
    return predictive_check(tree, simulate, PRIOR, seed=seed)


def test_exact_posteriors_pass_with_p_values_that_are_not_extreme():
    p_values = np.array([check(seed).p_values[0] for seed in range(40)])
    # Less spread than uniform ones, as the parameters were fitted to the data.
    assert p_values.mean() == pytest.approx(0.5, abs=0.15)
    assert ((p_values > 0.025) & (p_values < 0.975)).mean() >= 0.95


@pytest.mark.parametrize(
    ("spoiled", "message", "is_low"),
    [
        ({"shift": 3.0}, "does not predict the data", True),
        ({"width": 25.0}, "does not predict the data", True),
        ({"noise": 2.5}, "does not predict the data", True),
        ({"noise": 0.2}, "predicts more scatter than the data have", False),
    ],
)
def test_what_is_wrong_is_found(spoiled, message, is_low):
    found = check(**spoiled)
    assert found.passed is False
    assert message in found.verdict
    assert (found.p_values[0] < 0.025) == is_low


def test_many_observations_are_checked_and_the_worst_is_named():
    found = check(count=30)
    assert found.observations.tolist()[::9] == [0, 29] and found.passed
    with seeded(1):
        x = simulate(PRIOR.sample((3,)))
        tree = make_tree(x, batched=True)
        tree["observed_data"]["x"].values[1] += 6 * torch.randn(FEATURES).numpy()
    found = predictive_check(tree, simulate, PRIOR, seed=1)
    assert not found.passed
    assert "for observation 1, the worst of 3" in found.verdict


def test_trials_count_together():
    with seeded(1):
        theta = PRIOR.sample((1,))
        x = simulate(theta.expand(6, 2))
        draws = theta + 0.05 * torch.randn(4, 200, 2)
    tree = to_datatree(draws, observed_data=x)
    found = predictive_check(tree, simulate, PRIOR, seed=1)
    assert found.passed and found.observed.mean() > 4 * FEATURES


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_feature_is_judged_by_its_own_size(scale):
    def simulate_both(theta):
        x = theta.double() + 0.1 * torch.randn_like(theta.double())
        return torch.stack((scale * (10 + x[:, 0]), x[:, 1]), dim=1)

    draws = 0.1 * torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    observed = torch.tensor([10 * scale, 0.0], dtype=torch.float64)
    right = to_datatree(draws, observed_data=observed)
    assert predictive_check(right, simulate_both, PRIOR, seed=1).passed
    wrong = to_datatree(draws + torch.tensor([0.0, 2.0]), observed_data=observed)
    assert not predictive_check(wrong, simulate_both, PRIOR, seed=1).passed


def test_features_that_never_vary_are_no_trouble():
    def constant(theta):
        return torch.cat((simulate(theta), torch.ones(len(theta), 1)), dim=1)

    with seeded(1):
        x = simulate(PRIOR.sample((1,)))
        tree = make_tree(x)
        for value, passes in ((1.0, True), (2.0, False)):
            full = tree.copy()
            row = torch.cat((x[0], torch.tensor([value])))
            draws = torch.from_numpy(tree["posterior"]["theta"].values)
            full = to_datatree(draws, observed_data=row)
            assert predictive_check(full, constant, PRIOR, seed=1).passed == passes


def test_same_seed_gives_the_same_and_plots():
    first, second = check(), check()
    assert np.array_equal(first.repeated, second.repeated)
    assert isinstance(first.plot(), Figure)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_draws": 1}, "`num_draws` must be"),
        ({"num_repeats": 9}, "`num_repeats` must be"),
        ({"false_alarm_rate": 5}, "`false_alarm_rate` must lie"),
        ({"datatree": to_datatree(torch.zeros(4, 9, 2))}, "group `observed_data`"),
        ({"simulator": lambda theta: theta}, "must return 20 numbers a row"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    tree = make_tree(torch.zeros(1, FEATURES))
    given = {"datatree": tree, "simulator": simulate, "prior": PRIOR, **changes}
    with pytest.raises(ValueError, match=message):
        predictive_check(**given)
