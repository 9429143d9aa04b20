"""Fitted networks on disk, so that a run that goes on does not fit them again.

Weights go into safetensors, what the fit cost into JSON; no pickle.
"""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.comparison import methods
from sbi_aalr.comparison.memory import read_peak_memory, reset_peak_memory
from sbi_aalr.comparison.methods import Method
from sbi_aalr.comparison.tasks import Task
from sbi_aalr.files import write_whole
from sbi_aalr.persistence import posterior_files
from sbi_aalr.sampling.parameters import MHPosteriorParameters
from sbi_aalr.seeding import seeded

_WEIGHTS = "weights.safetensors"
# Written last: a folder without it holds no whole fit.
_COST = "cost.json"


class Fit(NamedTuple):
    """A fitted network and what it cost.

    Attributes:
        network: The network.
        train_seconds: Wall time from simulations to the network.
        peak_memory: Most memory that the process held meanwhile, MiB.
    """

    network: nn.Module
    train_seconds: float
    peak_memory: float


def fit(
    folder: Path, method: Method, task: Task, budget: int, seed: int, x_o: Tensor | None
) -> Fit:
    """Fit a network, or read it where it was fitted before.

    Args:
        folder: Where the network is kept.
        method: The method.
        task: The task.
        budget: Simulations, over all rounds.
        seed: Seed of simulations and training.
        x_o: The observation that later rounds are about, or None.

    Returns:
        The fit.
    """
    if (folder / _COST).exists():
        return _read(folder, method, task)
    reset_peak_memory()
    with seeded(seed):
        network, seconds = methods.fit(method, task, budget, x_o)
    fitted = Fit(network, seconds, read_peak_memory())
    _write(folder, fitted, task)
    return fitted


def _write(folder: Path, fitted: Fit, task: Task) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    network = fitted.network
    if _is_ours(network):
        parts = posterior_files.Saved(
            network, task.prior, MHPosteriorParameters(), None
        )
        posterior_files.write(folder, parts)
    else:
        weights = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in network.state_dict().items()
        }
        content = save(weights)
        write_whole(folder / _WEIGHTS, lambda path: path.write_bytes(content))
    cost = fitted._asdict()
    del cost["network"]
    text = json.dumps(cost) + "\n"
    write_whole(folder / _COST, lambda path: path.write_text(text))


def _read(folder: Path, method: Method, task: Task) -> Fit:
    if (folder / _WEIGHTS).exists():
        weights = load_file(folder / _WEIGHTS)
        with seeded(0):
            network = methods.rebuild(method, task, weights)
    else:
        network = posterior_files.read(folder, prior=task.prior).estimator
    return Fit(network, **json.loads((folder / _COST).read_text()))


def _is_ours(network: nn.Module) -> bool:
    """Whether it knows how it was built, which can depend on more than its rows."""
    return isinstance(network, RatioEstimator) and hasattr(network, "classifier_name")
