"""Lotka-Volterra: predators and prey as a Markov jump process, by Gillespie's method.

There is no tractable likelihood of the summaries: use calibration and the ratio test.

References:
    Gillespie (1977), J. Phys. Chem. 81(25).
    Papamakarios, Sterratt & Murray (2019), arXiv:1805.07226.
    Hermans, Begy & Louppe (2020), arXiv:1903.04057.
"""

import math

import torch
from sbi.utils import BoxUniform
from torch import Tensor

from sbi_aalr.checks import check_device
from sbi_aalr.simulators._interface import check_parameters

_START = (50.0, 100.0)
_DURATION = 30.0
_INTERVAL = 0.2
_NUM_TIMES = 151
_MAX_EVENTS = 10_000
_EVENTS_AT_ONCE = 50
_ROWS_AT_ONCE = 5_000
_LOW, _HIGH = -5.0, 2.0
_TRUTH = (0.01, 0.5, 1.0, 0.01)
# Change of predators and prey in each kind of event.
_CHANGES = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))


class LotkaVolterra:
    r"""Nine summaries of the numbers of predators and prey over 30 units of time.

    With $X$ predators and $Y$ prey, four kinds of events happen: a predator is born at
    the rate $e^{\theta_1} X Y$, dies at $e^{\theta_2} X$; prey is born at
    $e^{\theta_3} Y$, is eaten at $e^{\theta_4} X Y$. There are 50 predators and 100
    prey at first, both are counted every 0.2 units of time, and a run in which 10,000
    events have happened stays as it is. The prior is uniform on $(-5, 2)^4$.

    Args:
        device: Torch device of the prior and the true parameters.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: The parameters used in the paper, shape `(4,)`: the logarithms
            of 0.01, 0.5, 1 and 0.01.

    References:
        Hermans et al. (2020), arXiv:1903.04057.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import LotkaVolterra
        >>> task = LotkaVolterra()
        >>> task.simulate(task.true_parameters.expand(3, 4)).shape
        torch.Size([3, 9])
    """

    prior: BoxUniform
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        ones = torch.ones(4, device=device)
        self.prior = BoxUniform(_LOW * ones, _HIGH * ones)
        self.true_parameters = torch.tensor(_TRUTH, device=device).log()

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Run one population for each row of parameters and summarise it.

        Args:
            theta: Logarithms of the rates, shape `(N, 4)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Summaries, shape `(N, 9)`, with theta's dtype and device; see `summarise`.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        return self.summarise(self.simulate_populations(theta, generator=generator))

    def simulate_populations(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Count predators and prey every 0.2 units of time.

        Args:
            theta: Logarithms of the rates, shape `(N, 4)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Counts at the times 0, 0.2, ..., 30, shape `(N, 151, 2)`, with theta's dtype
            and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        check_parameters(theta, 4)
        parts = [_run(rows, generator) for rows in theta.split(_ROWS_AT_ONCE)]
        return torch.cat(parts)

    @staticmethod
    def summarise(populations: Tensor) -> Tensor:
        """Reduce counts to nine summaries.

        Args:
            populations: Counts of predators and prey, shape `(N, T, 2)`.

        Returns:
            log(1 + mean) of each, log(1 + variance) of each, autocorrelation of each at
            one and of each at two intervals, and their correlation with each other;
            zero where a population never changes. Shape `(N, 9)`.
        """
        length = populations.shape[1]
        mean = populations.mean(1)
        centred = populations - mean.unsqueeze(1)
        variance = centred.square().sum(1) / (length - 1)
        still = variance == 0
        scale = torch.where(still, torch.ones_like(variance), variance).sqrt()
        standard = centred / scale.unsqueeze(1)
        lagged = [
            (standard[:, lag:] * standard[:, :-lag]).sum(1) / (length - 1)
            for lag in (1, 2)
        ]
        crossed = standard.prod(-1).sum(1, keepdim=True) / (length - 1)
        return torch.cat([mean.log1p(), variance.log1p(), *lagged, crossed], 1)


def _run(theta: Tensor, generator: torch.Generator | None) -> Tensor:
    """Run one block of rows, each to its end."""
    size, device, dtype = len(theta), theta.device, theta.dtype
    start = torch.tensor(_START, dtype=dtype, device=device)
    changes = torch.tensor(_CHANGES, dtype=dtype, device=device)
    # The state at a time is that after the last event before it; an event writes its
    # state to the next time, and times without events are filled in at the end.
    counts = torch.full((size, _NUM_TIMES + 1, 2), math.nan, dtype=dtype, device=device)
    counts[:, 0] = start
    row = torch.arange(size, device=device)
    rates, state = theta.exp(), start.expand(size, 2)
    clock = torch.zeros(size, dtype=dtype, device=device)
    for _ in range(0, _MAX_EVENTS, _EVENTS_AT_ONCE):
        uniform = torch.rand(
            (2, _EVENTS_AT_ONCE, len(row)),
            dtype=dtype,
            device=device,
            generator=generator,
        )
        # A wait of zero would be no number where nothing can happen.
        waits = -torch.log1p(-uniform[0]).clamp(max=-torch.finfo(dtype).tiny)
        picks = uniform[1]
        for wait, pick in zip(waits, picks, strict=True):
            both = state.prod(-1, keepdim=True)
            factors = torch.cat([both, state, both], -1)
            total = (rates * factors).cumsum(-1)
            # Without any rate the wait is infinite, and nothing happens any more.
            clock = clock + wait / total[:, -1]
            kind = (pick.unsqueeze(-1) * total[:, -1:] >= total).sum(-1).clamp(max=3)
            state = torch.where(
                (clock < _DURATION).unsqueeze(-1), state + changes[kind], state
            )
            time = (clock / _INTERVAL).clamp(max=_NUM_TIMES - 1).long() + 1
            counts[row, time] = state
        running = clock < _DURATION
        row, rates, state, clock = (
            value[running] for value in (row, rates, state, clock)
        )
        if len(row) == 0:
            break
    for index in range(1, _NUM_TIMES):
        unchanged = counts[:, index].isnan()
        counts[:, index] = torch.where(
            unchanged, counts[:, index - 1], counts[:, index]
        )
    return counts[:, :_NUM_TIMES]
