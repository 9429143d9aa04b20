"""Fitted networks on disk, so that a run that goes on does not fit them again.

Networks of this package are saved as posteriors, of others the weights alone, as
safetensors; what the fit cost goes into JSON. No pickle.
"""

import contextlib
from pathlib import Path
from typing import NamedTuple

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.comparison.cost import read_peak_memory, reset_peak_memory
from sbi_aalr.comparison.methods import Method, fit_network, rebuild
from sbi_aalr.comparison.tasks import Task
from sbi_aalr.files import read_sealed, read_tensors, write_sealed, write_tensors
from sbi_aalr.networks import Stack
from sbi_aalr.posterior import MHPosterior
from sbi_aalr.seeding import seeded

_WEIGHTS = "weights.safetensors"
# Written last: a folder without it holds no whole fit.
_COST = "cost.json"


class FittedNetwork(NamedTuple):
    """A fitted network and what it cost.

    Attributes:
        network: The network.
        train_seconds: Wall time from simulations to the network.
        peak_memory: Most memory that the process held meanwhile, MiB.
    """

    network: nn.Module
    train_seconds: float
    peak_memory: float


def fit_once(
    folder: Path, method: Method, task: Task, budget: int, seed: int, x_o: Tensor | None
) -> FittedNetwork:
    """Fit a network, or read it where it was fitted before.

    Args:
        folder: Where the network is kept.
        method: The method.
        task: The task.
        budget: Simulations, over all rounds.
        seed: Seed of simulations and training.
        x_o: The observation that later rounds are about, or None.

    Returns:
        The network and its cost.
    """
    if (folder / _COST).exists():
        # One that is damaged is fitted again.
        with contextlib.suppress(ValueError):
            return _read(folder, method, task)
        (folder / _COST).unlink()
    reset_peak_memory()
    with seeded(seed):
        network, seconds = fit_network(method, task, budget, x_o)
    fitted = FittedNetwork(network, seconds, read_peak_memory())
    _write(folder, fitted, task)
    return fitted


def _write(folder: Path, fitted: FittedNetwork, task: Task) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    network = fitted.network
    # A stack and a network with a name know how they were built, which can depend on
    # more than rows.
    has_name = hasattr(network, "classifier_name") or isinstance(network, Stack)
    if isinstance(network, RatioEstimator) and has_name:
        MHPosterior.from_estimator(network, task.prior).save(folder)
    else:
        write_tensors(folder / _WEIGHTS, network.state_dict())
    cost = fitted._asdict()
    del cost["network"]
    write_sealed(folder / _COST, cost, indent=None)


def _read(folder: Path, method: Method, task: Task) -> FittedNetwork:
    # Networks and posteriors are made with random numbers, which the weights replace.
    with seeded(0):
        if (folder / _WEIGHTS).exists():
            network = rebuild(method, task, read_tensors(folder / _WEIGHTS))
        else:
            posterior = MHPosterior.load(folder, prior=task.prior)
            network = posterior.potential_fn.ratio_estimator
    return FittedNetwork(network, **read_sealed(folder / _COST))
