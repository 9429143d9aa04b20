"""What the methods share: budgets in rounds, and an end to rejection."""

import warnings

import pytest
import torch
from instant_methods import Task, make_method
from sbi.inference import NPE_C

from sbi_aalr.comparison.methods import Method, draw, fit_network
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.trainer.no_tracker import NoTracker


@pytest.mark.parametrize(
    ("rounds", "budget", "sizes"), [(1, 11, [11]), (3, 11, [4, 4, 3]), (2, 10, [5, 5])]
)
def test_budget_is_spread_evenly_over_rounds(tmp_path, rounds, budget, sizes):
    seen = []

    class Watched(Task):
        def simulate(self, theta):
            seen.append(len(theta))
            return super().simulate(theta)

    method = make_method(tmp_path / "log.txt", rounds=rounds)
    fit_network(method, Watched(), budget, torch.zeros(1, 2))
    assert seen == sizes


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"rounds": 0}, ValueError, "`rounds` must be a positive int, got 0"),
        ({"rounds": 1.5}, TypeError, "`rounds` must be a positive int, got 1.5"),
        ({"trainer": "npe"}, TypeError, "`trainer` must be a class .*got 'npe'"),
    ],
)
def test_wrong_method_is_refused(settings, error, match):
    with pytest.raises(error, match=match):
        Method(**({"trainer": NPE_C} | settings))


def test_rejection_without_end_is_given_up():
    task = TwoMoons()
    theta = task.prior.sample((60,))
    inference = NPE_C(prior=task.prior, tracker=NoTracker(), show_progress_bars=False)
    network = inference._build_neural_net(theta + 100, task.simulate(theta))
    posterior = inference.build_posterior(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="time"):
            draw(posterior, 10, torch.zeros(1, 2), max_rejection_seconds=0.2)
