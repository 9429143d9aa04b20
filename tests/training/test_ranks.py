"""Two processes that train together against one, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, draw_pairs, simulate

from sbi_aalr import AALR
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.loop import fit
from sbi_aalr.training.ranks import (
    average,
    average_gradients,
    count_ranks,
    find_most,
    find_rank,
    gather,
    share,
    together,
)
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe

RECIPE = Recipe(batch_size=64, num_passes=2, learning_rate=0.02)
QUIET = {"show_progress_bars": False}


class Shared:
    """The same batches for all, of which each process sees its part."""

    num_simulations = 640

    def __iter__(self):
        rank, ranks = find_rank(), count_ranks()
        for seed in range(10):
            theta, _, x = draw_pairs(64, seed)
            prime = PRIOR.sample((64,)) if ranks < 0 else draw_pairs(64, seed + 99)[0]
            size = 64 // ranks
            rows = slice(rank * size, (rank + 1) * size)
            yield Batch(theta[rows], prime[rows], x[rows])


def build():
    torch.manual_seed(0)
    return build_quadratic(*draw_pairs(64, 0)[::2])


def fit_shared():
    estimator = build()
    recipe = RECIPE._replace(batch_size=64 // count_ranks())
    held_out = [Batch(*draw_pairs(100, 77))]
    loss = RatioLoss(1, info_nce=0.0)
    # A rank counts its own simulations.
    passes = Shared()
    passes.num_simulations = 640 // count_ranks()
    fit(estimator, passes, recipe=recipe, loss=loss, held_out=held_out)
    return estimator.state_dict()


def train(**settings):
    given = []

    def remember(theta):
        given.append(theta)
        return simulate(theta)

    trainer = AALR(PRIOR, **{**QUIET, **settings})
    trainer.train_online(remember, 600, num_passes=2, batch_size=60, seed=1)
    return trainer, torch.cat(given[2:])


def work(folder):
    """What each of the two processes does."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    found = {}
    with together():
        found["fit"] = fit_shared()
        found["numbers"] = [average(float(rank)), find_most(float(rank)), share(rank)]
        found["rows"] = gather(torch.full((2, 1), rank), torch.full((2, 3), rank))
        weights = [torch.zeros(3, requires_grad=True)]
        weights[0].grad = torch.full((3,), float(rank))
        average_gradients(weights)
        found["gradient"] = weights[0].grad
    for name, settings in (("towers", {"base": None}), ("stack", {})):
        trainer, theta = train(**settings)
        found[name] = trainer._neural_net.state_dict(), theta
        found[f"{name}_loss"] = trainer.summary["validation_loss"]
    try:
        AALR(PRIOR, **QUIET).train_online(simulate, 600, checkpoint=folder)
    except ValueError as error:
        found["message"] = str(error)
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_one_process_shares_with_nobody():
    with together():
        assert (count_ranks(), find_rank(), share(3), average(2.0)) == (1, 0, 3, 2.0)
        pair = torch.zeros(2, 1), torch.zeros(2, 1)
        assert gather(*pair) == pair


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=29611", __file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment, timeout=500)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    alone = fit_shared()
    for name in alone:
        assert torch.equal(found[0]["fit"][name], found[1]["fit"][name])
        torch.testing.assert_close(found[0]["fit"][name], alone[name])
    for rank in range(2):
        assert found[rank]["numbers"] == [0.5, 1.0, 0]
        assert found[rank]["rows"][1][:, 0].tolist() == [0, 0, 1, 1]
        assert found[rank]["gradient"].tolist() == [0.5] * 3
        assert "`checkpoint` must be left out" in found[rank]["message"]
    for name in ("towers", "stack"):
        (ours, theta), (theirs, other) = (found[rank][name] for rank in range(2))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        # Each makes half of the simulations, of its own.
        assert len(theta) == len(other) == 300
        assert not (theta[:, None] == other).all(dim=2).any()
        assert found[0][f"{name}_loss"] == found[1][f"{name}_loss"]


if __name__ == "__main__":
    work(sys.argv[1])
