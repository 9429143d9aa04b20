"""Learning-rate schedule and averaging of weights, by the share of training done.

Both depend on how much of the budget is spent and on nothing else, so that the same
recipe serves any budget, be it counted in simulations or in seconds.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sbi_aalr.training.parcel import Parcel

_WARM_UP_SHARE = 0.03
# The average reaches back over this share of the steps done so far.
_AVERAGED_SHARE = 0.03


def compute_rate_factor(progress: float, warms_up: bool = True) -> float:
    """Factor of the learning rate: up over the first 3 %, then down to zero in a line.

    Args:
        progress: Share of the budget that is spent, from 0 to 1.
        warms_up: Whether to go up first. Where seconds alone are counted, training may
            end long before they have passed, and the first 3 % of them be most of it.

    Returns:
        A factor between 0 and 1.

    Example:
        >>> [compute_rate_factor(progress) for progress in (0.0, 0.03, 1.0)]
        [0.0, 1.0, 0.0]
    """
    if warms_up and progress < _WARM_UP_SHARE:
        return progress / _WARM_UP_SHARE
    return min(1.0, (1 - progress) / (1 - _WARM_UP_SHARE))


class WeightAverage:
    """Exponential average of a network's weights over the last share of its steps.

    The average of a path that scatters around a valley lies closer to its floor than
    the path does.

    torch's `AveragedModel`, given our shares as its `multi_avg_fn`, comes to the same
    weights bit for bit. A step takes 2.1 times as long (`benchmarks/own_parts.py`), and
    it keeps a copy of the whole network, frozen weights and buffers too.

    Args:
        network: The network whose weights change.

    References:
        Karras et al. (2024), arXiv:2312.02696, for averages that reach back over a
        constant share of the steps.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights: list[Tensor] = [
            p for p in network.parameters() if p.requires_grad
        ]
        self._average = [weight.detach().clone() for weight in self._weights]
        self._num_steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._num_steps += 1
        share = 1 / max(1.0, _AVERAGED_SHARE * self._num_steps)
        torch._foreach_lerp_(self._average, self._weights, min(1.0, share))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Use the average inside, and the weights themselves again afterwards."""
        own = [weight.detach().clone() for weight in self._weights]
        self.apply()
        try:
            yield
        finally:
            _copy(own, self._weights)

    def apply(self) -> None:
        """Put the average in the place of the weights for good."""
        _copy(self._average, self._weights)

    def pack(self) -> Parcel:
        """What `unpack` makes the same of."""
        tensors = {str(i): average for i, average in enumerate(self._average)}
        return Parcel(tensors, {"num_steps": self._num_steps})

    def unpack(self, parcel: Parcel) -> None:
        """Go on from what `pack` returned."""
        self._num_steps = parcel.facts["num_steps"]
        tensors = parcel.tensors
        _copy([tensors[str(i)] for i in range(len(self._average))], self._average)


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    torch._foreach_copy_(target, source)
