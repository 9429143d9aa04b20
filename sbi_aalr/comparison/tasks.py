"""The tasks, and for each its observations with draws from their exact posteriors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_prior
from sbi_aalr.files import read_tensors, write_tensors
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt
from sbi_aalr.simulators import (
    MG1,
    SIR,
    SLCP,
    BernoulliGLM,
    BernoulliGLMRaw,
    GaussianLinear,
    GaussianLinearUniform,
    GaussianMixture,
    LotkaVolterra,
    LotkaVolterraODE,
    SLCPDistractors,
    TwoMoons,
)
from sbi_aalr.types import Simulator

# Far from any seed of a fit, so that no observation is among the simulations, and from
# 1,000,000, where sbibm's own seeds begin: with them torch makes sbibm's observations,
# which are to be reported on and not to be tuned with.
_FIRST_SEED = 30_000_000
# The files of a comparison.
OBSERVATIONS = "observations"
# By less of the largest an observation's numbers differ that is simulated again, on
# whatever machine; so many are shown where they differ by more.
_RTOL, _MOST_SHOWN = 1e-3, 3


class Task(Protocol):
    """A simulator with its prior.

    Where there is a method `sample_posterior(num_samples, x_o, seed=...)` as well, its
    exact draws are what the methods' draws are compared with.
    """

    prior: Distribution

    def simulate(self, theta: Tensor, /) -> Tensor:
        """Map parameters `(N, D)` to data `(N, E)`; or as sbi accepts it."""
        ...


# The ten tasks of sbibm by their names there, with its settings, and two more.
TASKS: Mapping[str, type] = {
    "slcp": SLCP,
    "slcp_distractors": SLCPDistractors,
    "two_moons": TwoMoons,
    "gaussian_linear": GaussianLinear,
    "gaussian_linear_uniform": GaussianLinearUniform,
    "gaussian_mixture": GaussianMixture,
    "bernoulli_glm": BernoulliGLM,
    "bernoulli_glm_raw": BernoulliGLMRaw,
    "sir": SIR,
    "lotka_volterra": LotkaVolterraODE,
    "lotka_volterra_jumps": LotkaVolterra,
    "mg1": MG1,
}


@dataclass
class AdaptedTask:
    """A task whose simulator takes batches and cannot spoil what is made with it."""

    prior: Distribution
    simulate: Simulator
    sample_posterior: Callable[..., Tensor] | None


def adapt_task(name: str, task: Any) -> AdaptedTask:
    """Check a task, whose simulator may be any that sbi accepts.

    Args:
        name: What it is called, for messages.
        task: What should be a `Task`.

    Raises:
        TypeError: If it has no prior or simulator.
        ValueError: If one of them cannot be used.
    """
    if not (hasattr(task, "prior") and callable(getattr(task, "simulate", None))):
        raise TypeError(
            f"`tasks` must have a `prior` and a method `simulate`, got {task!r} for "
            f"{name!r}."
        )
    return AdaptedTask(
        check_prior(f"{name}.prior", task.prior),
        adapt(task.simulate, task.prior),
        getattr(task, "sample_posterior", None),
    )


class KnownObservation(NamedTuple):
    """What a posterior is asked for, and the answer as far as it is known.

    Attributes:
        theta: The true parameters, shape `(D,)`.
        x: The data simulated from them, shape `(1, E)`.
        reference: Draws from the exact posterior, shape `(S, D)`, or None.
    """

    theta: Tensor
    x: Tensor
    reference: Tensor | None


def observe(
    folder: Path, name: str, task: Task, index: int, num_samples: int
) -> KnownObservation:
    """Return an observation, from a file if it has been made before.

    The true parameters are a draw from the prior that depends on `index` alone.

    Args:
        folder: Where the files are.
        name: The task's name.
        task: The task.
        index: Number of the observation, from 1 up.
        num_samples: Number of exact draws.

    Returns:
        The observation.
    """
    path = _locate(folder, name, index)
    try:
        tensors = read_tensors(path)
    except (FileNotFoundError, ValueError):
        # One that is damaged is made again, and is the same as before.
        tensors = _make_observation(task, index, num_samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors)
    return KnownObservation(tensors["theta"], tensors["x"], tensors.get("reference"))


def check_same_task(folder: Path, name: str, task: Task) -> None:
    """Raise if the observations in a folder are of another task of that name.

    The first of them is simulated again. Where the simulator does not follow the seed,
    the prior alone is told by it.

    Args:
        folder: Where the files are.
        name: The task's name.
        task: The task.

    Raises:
        ValueError: If prior or simulator give something else.
    """
    try:
        tensors = read_tensors(_locate(folder, name, 1))
    except (FileNotFoundError, ValueError):
        return
    found = tensors["theta"], tensors["x"]
    theta, x = _simulate(task, 1)
    is_same = _are_close(found[0], theta) and (
        _are_close(found[1], x) or not _are_close(x, _simulate(task, 1)[1])
    )
    if not is_same:
        raise ValueError(
            f"`tasks` must mean what they mean in the comparison in {folder.parent}, "
            f"got another {name!r}: its first observation there has theta "
            f"{_shorten(found[0])} and x {_shorten(found[1])}, and this task gives "
            f"{_shorten(theta)} and {_shorten(x)}. Choose another folder, or another "
            "name."
        )


def _are_close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    least = _RTOL * float(first.double().abs().max())
    return torch.allclose(first.double(), second.double(), rtol=0, atol=least)


def _shorten(values: Tensor) -> str:
    numbers = [f"{value:.4g}" for value in values.flatten()[:_MOST_SHOWN].tolist()]
    rest = ["..."] if values.numel() > _MOST_SHOWN else []
    return f"({', '.join(numbers + rest)})"


def _locate(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}-{index}.safetensors"


def _simulate(task: Task, index: int) -> tuple[Tensor, Tensor]:
    """Parameters `(D,)` and data `(1, E)` of an observation."""
    with seeded(_FIRST_SEED + index):
        theta = task.prior.sample((1,))
        return theta[0], task.simulate(theta)


def _make_observation(task: Task, index: int, num_samples: int) -> dict[str, Tensor]:
    seed = _FIRST_SEED + index
    theta, x = _simulate(task, index)
    tensors = {"theta": theta, "x": x}
    sample_posterior = getattr(task, "sample_posterior", None)
    if sample_posterior is not None:
        tensors["reference"] = sample_posterior(num_samples, x, seed=seed)
    return tensors
