"""The code on a page makes the run again, draw for draw."""

import pytest
import torch
from exact_ratios import make_known, make_posterior_density
from linear_gaussian import PRIOR, X_O

from sbi_aalr import MHPosterior
from sbi_aalr.mcmc.kernels import hmc
from sbi_aalr.networks import Stack
from sbi_aalr.report.again import list_commands

QUIET = {"show_progress_bars": False}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"thin": 4},
        {"thin": 10},
        {"kernel": "jump_walk"},
        {"max_rhat": None, "min_ess": None},
        {"num_chains": 8, "warmup_steps": 100},
        {"max_batch_size": 64},
    ],
)
@pytest.mark.parametrize("is_guided", [True, False])
def test_printed_call_gives_the_same_draws(given, is_guided):
    estimator = make_known()
    if is_guided:
        proposal = make_posterior_density()
        estimator = Stack([estimator], torch.ones(1), proposal=proposal)
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    draws = posterior.sample((100,), x=X_O, seed=1, **QUIET, **given)
    commands = list_commands(posterior.to_datatree(), "page.html", {})
    call = commands[commands.index("posterior.sample") :].split("\nposterior.report")[0]
    assert all(name in call for name in given)
    code = f"{call.removesuffix(')').rstrip(', ')}, **QUIET)"
    names = {"posterior": posterior, "x": X_O, "QUIET": QUIET}
    assert torch.equal(eval(code, names), draws)


def test_kernel_of_the_users_is_called_by_name():
    posterior = MHPosterior.from_estimator(make_known(), PRIOR)
    posterior.sample((10,), x=X_O, seed=1, kernel=hmc.KERNEL, **QUIET)
    commands = list_commands(posterior.to_datatree(), "page.html", {})
    assert "kernel=kernel" in commands and "0x" not in commands
