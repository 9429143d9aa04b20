"""Fitted networks on disk, so that a run that goes on does not fit them again.

Weights go into safetensors, what the fit cost into its metadata; no pickle.
"""

from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sbi_aalr.atomic import write_whole
from sbi_aalr.comparison import methods
from sbi_aalr.comparison.methods import Method
from sbi_aalr.comparison.sampling_cost import read_peak_memory, reset_peak_memory
from sbi_aalr.comparison.tasks import Task
from sbi_aalr.stream import seeded


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
    path: Path, method: Method, task: Task, budget: int, seed: int, x_o: Tensor | None
) -> Fit:
    """Fit a network, or read it where it was fitted before.

    Args:
        path: Where the network is kept.
        method: The method.
        task: The task.
        budget: Simulations, over all rounds.
        seed: Seed of simulations and training.
        x_o: The observation that later rounds are about, or None.

    Returns:
        The fit.
    """
    if path.exists():
        return _read(path, method, task)
    reset_peak_memory()
    with seeded(seed):
        network, seconds = methods.fit(method, task, budget, x_o)
    fitted = Fit(network, seconds, read_peak_memory())
    _write(path, fitted)
    return fitted


def _write(path: Path, fitted: Fit) -> None:
    weights = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in fitted.network.state_dict().items()
    }
    cost = {
        name: repr(getattr(fitted, name)) for name in ("train_seconds", "peak_memory")
    }
    content = save(weights, metadata=cost)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda target: target.write_bytes(content))


def _read(path: Path, method: Method, task: Task) -> Fit:
    file: Any
    with safe_open(path, framework="pt") as file:
        cost = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with seeded(0):
        network = methods.rebuild(method, task, weights)
    return Fit(
        network, *(float(cost[name]) for name in ("train_seconds", "peak_memory"))
    )
