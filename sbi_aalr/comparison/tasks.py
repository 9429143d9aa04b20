"""The tasks, and for each its observations with draws from their exact posteriors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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
    path = folder / f"{name}-{index}.safetensors"
    try:
        tensors = read_tensors(path)
    except (FileNotFoundError, ValueError):
        # One that is damaged is made again, and is the same as before.
        tensors = _make_observation(task, index, num_samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, tensors)
    return KnownObservation(tensors["theta"], tensors["x"], tensors.get("reference"))


def _make_observation(task: Task, index: int, num_samples: int) -> dict[str, Tensor]:
    seed = _FIRST_SEED + index
    with seeded(seed):
        theta = task.prior.sample((1,))
        x = task.simulate(theta)
    tensors = {"theta": theta[0], "x": x}
    sample_posterior = getattr(task, "sample_posterior", None)
    if sample_posterior is not None:
        tensors["reference"] = sample_posterior(num_samples, x, seed=seed)
    return tensors
