"""The methods: sbi's own classes and ours, with the defaults that they document."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sbi.inference import BNRE, NLE_A, NPE_C, NRE_A, NRE_B, NRE_C, DirectPosterior
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.inference.trainers.npe import PosteriorEstimatorTrainer
from torch import Tensor, nn
from torch.distributions import Distribution

from sbi_aalr.checks import check_field, check_positive_int
from sbi_aalr.comparison.tasks import Task
from sbi_aalr.posterior import MHPosterior
from sbi_aalr.trainer import AALR
from sbi_aalr.trainer.no_tracker import NoTracker


@dataclass(frozen=True)
class Method:
    """A way from simulations to a posterior.

    Args:
        trainer: What makes the trainer: any sbi trainer class, or a callable that takes
            `prior`, `tracker` and `show_progress_bars` by name.
        rounds: Rounds that the budget is spread over. With more than one, all but the
            first simulate from the posterior of one observation found so far, and the
            method is fitted anew for each observation.

    Raises:
        TypeError: If the trainer cannot be called, or `rounds` is no int.
        ValueError: If `rounds` is not positive.
    """

    trainer: Callable[..., Any]
    rounds: int = 1

    def __post_init__(self) -> None:
        """Check both."""
        if not callable(self.trainer):
            raise TypeError(
                f"`trainer` must be a class or another callable, got {self.trainer!r}."
            )
        check_field(self, "rounds", check_positive_int)


METHODS: Mapping[str, Method] = {
    "aalr": Method(AALR),
    "nre_a": Method(NRE_A),
    "nre_b": Method(NRE_B),
    "nre_c": Method(NRE_C),
    "bnre": Method(BNRE),
    "npe": Method(NPE_C),
    "nle": Method(NLE_A),
    "snre": Method(NRE_B, rounds=10),
    "snpe": Method(NPE_C, rounds=10),
    "snle": Method(NLE_A, rounds=10),
}


def make_trainer(method: Method, prior: Distribution) -> Any:
    """Return a new trainer that keeps no logs and shows no progress."""
    return method.trainer(prior=prior, tracker=NoTracker(), show_progress_bars=False)


def fit_network(
    method: Method, task: Task, budget: int, x_o: Tensor | None = None
) -> tuple[nn.Module, float]:
    """Simulate and train.

    Args:
        method: The method.
        task: The task.
        budget: Simulations, over all rounds.
        x_o: The observation that later rounds are about, shape `(1, E)`; of no use
            with one round.

    Returns:
        The fitted network, and the seconds it took once the simulations were there.
    """
    trainer, seconds = None, 0.0
    proposal: Any = task.prior
    for index in range(method.rounds):
        # Spread evenly, the first rounds having one more where it does not divide.
        size = budget // method.rounds + (index < budget % method.rounds)
        started = time.perf_counter()
        theta = draw(proposal, size, x_o) if index else proposal.sample((size,))
        seconds += time.perf_counter() - started
        x = task.simulate(theta)
        started = time.perf_counter()
        if trainer is None:
            # Not before: sbi's constructors draw random numbers, and the simulations
            # of a seed should be the same for all methods.
            trainer = make_trainer(method, task.prior)
        _append(trainer, theta, x, index, proposal)
        network = trainer.train()
        if index + 1 < method.rounds:
            proposal = trainer.build_posterior(network).set_default_x(x_o)
        seconds += time.perf_counter() - started
    return network, seconds


def rebuild(method: Method, task: Task, weights: Mapping[str, Tensor]) -> nn.Module:
    """Make a network from its weights alone.

    Args:
        method: The method that it was fitted by.
        task: The task that it was fitted to.
        weights: What `network.state_dict()` held.

    Returns:
        The network, ready to be evaluated.
    """
    # The rows give shapes; whatever else is read off them is among the weights.
    theta = task.prior.sample((100,))
    network = make_trainer(method, task.prior)._build_neural_net(
        theta, task.simulate(theta)
    )
    network.load_state_dict(dict(weights))
    return network.eval()


def build_posterior(method: Method, task: Task, network: nn.Module) -> NeuralPosterior:
    """Return the posterior that the method builds by default."""
    return make_trainer(method, task.prior).build_posterior(network)


def draw(
    posterior: NeuralPosterior,
    num_samples: int,
    x_o: Tensor | None,
    max_rejection_seconds: float = 600.0,
) -> Tensor:
    """Draw from a posterior, shape `(S, D)`; chains go on until S are independent.

    Args:
        posterior: The posterior.
        num_samples: Number of draws S.
        x_o: The observation, or None for the posterior's own.
        max_rejection_seconds: When to give up on rejection, which may never end where
            the mass of a flow lies outside the prior.

    Raises:
        RuntimeError: If rejection takes longer than that.
    """
    limits: dict[str, Any] = {}
    if isinstance(posterior, DirectPosterior):
        limits["max_sampling_time"] = max_rejection_seconds
    elif isinstance(posterior, MHPosterior):
        # A classifier learns draws that repeat by heart.
        least = posterior.parameters.min_ess or 0.0
        limits["min_ess"] = max(least, float(num_samples))
    return posterior.sample((num_samples,), x=x_o, show_progress_bars=False, **limits)


def _append(trainer: Any, theta: Tensor, x: Tensor, index: int, proposal: Any) -> None:
    if index == 0:
        trainer.append_simulations(theta, x)
    elif isinstance(trainer, PosteriorEstimatorTrainer):
        trainer.append_simulations(theta, x, proposal=proposal)
    else:
        trainer.append_simulations(theta, x, from_round=index)
