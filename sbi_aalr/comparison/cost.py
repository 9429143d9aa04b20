"""What a method costs: evaluations of the network when it samples, and memory."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

_NETWORKS = ("ratio_estimator", "likelihood_estimator", "posterior_estimator")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Counter:
    """A count that grows."""

    total: float = 0

    def add(self, count: int) -> None:
        """Add to the count."""
        self.total += count


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
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)
