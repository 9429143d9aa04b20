"""What sampling costs, and how well chains mix: evaluations, memory, ESS and R-hat."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sbi.inference.posteriors import MCMCPosterior
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.diagnostics import rank_statistics
from sbi_aalr.posterior import MHPosterior

_NETWORKS = ("ratio_estimator", "likelihood_estimator", "posterior_estimator")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Counter:
    """A count that grows."""

    total: float = 0

    def add(self, count: int) -> None:
        """Add to the count."""
        self.total += count


class Mixing(NamedTuple):
    """How well chains mix; NaN where there are none.

    Attributes:
        min_ess: Least effective sample size, bulk or tail, over parameters.
        max_rhat: Largest R-hat over parameters.
    """

    min_ess: float
    max_rhat: float


@contextmanager
def count_evaluations(posterior: Any) -> Iterator[Counter]:
    """Count the parameter sets that a posterior's network is evaluated at.

    Of a ratio or a likelihood, each evaluation counts; of a flow that is drawn from,
    each proposal, those outside the prior included.

    Args:
        posterior: A posterior of sbi or of this package.

    Yields:
        The counter; NaN for a posterior with another kind of network.
    """
    counter = Counter()
    potential_fn = getattr(posterior, "potential_fn", None)
    networks = (getattr(potential_fn, name, None) for name in _NETWORKS)
    network = next(filter(None, networks), None)
    if network is None:
        counter.total = math.nan
        yield counter
        return
    if isinstance(network, RatioEstimator):
        # Every way to the log-ratio, with x embedded before or not, leads through here.
        hook = network.embedding_net_theta.register_forward_pre_hook(
            lambda _, rows: counter.add(rows[0].shape[:-1].numel())
        )
        try:
            yield counter
        finally:
            hook.remove()
        return
    log_prob, sample = network.log_prob, network.sample

    def counted_log_prob(rows: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = log_prob(rows, *args, **kwargs)
        counter.add(result.numel())
        return result

    def counted_sample(sample_shape: Any, *args: Any, **kwargs: Any) -> Tensor:
        result = sample(sample_shape, *args, **kwargs)
        counter.add(result.shape[:-1].numel())
        return result

    network.log_prob, network.sample = counted_log_prob, counted_sample
    try:
        yield counter
    finally:
        del network.log_prob, network.sample


def measure_mixing(posterior: Any, draws: Tensor) -> Mixing:
    """Measure the chains behind the last draws of a posterior.

    Args:
        posterior: The posterior that was drawn from.
        draws: What it returned, shape `(S, D)`.

    Returns:
        The figures; sbi's chains are put together again from the draws.
    """
    if isinstance(posterior, MHPosterior) and posterior.chains is not None:
        theta = posterior.chains.theta
    elif isinstance(posterior, MCMCPosterior):
        length = -(-len(draws) // posterior.num_chains)
        chains = draws[: len(draws) // length * length].unflatten(0, (-1, length))
        theta = chains.unsqueeze(2)
    else:
        return Mixing(math.nan, math.nan)
    theta = theta.double()
    sizes = rank_statistics.ess_bulk(theta), rank_statistics.ess_tail(theta)
    smallest = min(float(size.min()) for size in sizes)
    return Mixing(smallest, float(rank_statistics.rhat(theta).max()))


def reset_peak_memory() -> None:
    """Begin anew to record the most memory that this process holds, on Linux."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        # Elsewhere the record is that of the process's whole life.
        return


def read_peak_memory() -> float:
    """Return the most memory that this process held since the reset, in MiB.

    Where there is no reset, the most it ever held; NaN where that is unknown too.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
