r"""Two populations that feed on each other, solved in their logarithms.

The equations $\dot u = u (a - b v)$ and $\dot v = v (d u - c)$ are those of
Lotka-Volterra, and those of an epidemic as well, where $a = 0$ and $b = d$. Logarithms
stay finite where populations all but die out, and no value turns negative.

References:
    Dormand & Prince (1980), Journal of Computational and Applied Mathematics 6(1).
    Hairer, Norsett & Wanner (1993), Solving Ordinary Differential Equations I, II.4 and
    II.5, for the choice of steps and the coefficients.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Error of a step, in the logarithms.
_TOLERANCE = 1e-6
_FIRST_STEPS = 16
_MAX_STEPS = 5_000
# Of an interval; below it a solution is on its way to infinity.
_SHORTEST_STEP = 1e-9
_SAFETY, _LEAST_FACTOR, _LARGEST_FACTOR = 0.9, 0.2, 5.0
# Few enough to stay in the cache.
_ROWS_AT_ONCE = 10_000
# Rows that are done are carried along until they are so many.
_DONE_SHARE = 0.25

_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    # The last one is the solution.
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class _Rows(NamedTuple):
    """Rows on their way, each with a clock and a step of its own; the last axis is N.

    Attributes:
        place: Where each row stands in the solution.
        growth: Growth of both where the other is absent, `(2, N)`.
        effect: What one of the other adds to it, `(2, N)`.
        logs: Logarithms of both populations, `(2, N)`.
        clock: Time.
        step: What to try next.
        reached: Number of the last time that was reached.
    """

    place: Tensor
    growth: Tensor
    effect: Tensor
    logs: Tensor
    clock: Tensor
    step: Tensor
    reached: Tensor


def solve(
    rates: Tensor, start: tuple[float, float], interval: float, num_times: int
) -> Tensor:
    """Solve the equations of each row, with steps that keep the error small.

    Args:
        rates: The rates a, b, c and d, shape `(N, 4)`.
        start: Both populations at time zero, positive.
        interval: From one time to the next, in the inverse unit of `a` and `c`.
        num_times: Number of times T, zero included.

    Returns:
        Logarithms of both populations at times 0, interval, 2 interval, ..., shape
        `(N, T, 2)`, float64, on the device of the rates. Errors add up to some 1e-5.
        NaN in rows that take more than 5,000 steps, or that run off to infinity.

    Example:
        >>> rates = torch.tensor([[0.5, 0.0, 0.25, 0.0]])
        >>> solve(rates, (1.0, 1.0), 2.0, 3)
        tensor([[[ 0.0000,  0.0000],
                 [ 1.0000, -0.5000],
                 [ 2.0000, -1.0000]]], dtype=torch.float64)
    """
    # Apple's GPUs have no float64, and rounding errors in float32 add up.
    home = "cpu" if rates.device.type == "mps" else rates.device
    parts = [
        _solve_block(block, start, interval, num_times)
        for block in rates.detach().to(home, torch.float64).split(_ROWS_AT_ONCE)
    ]
    solution = torch.cat(parts)
    on_mps = rates.device.type == "mps"
    return solution.float().to(rates.device) if on_mps else solution


def _solve_block(
    rates: Tensor, start: tuple[float, float], interval: float, num_times: int
) -> Tensor:
    logs = rates.new_tensor(start).log()
    solution = rates.new_full((len(rates), num_times, 2), math.nan)
    solution[:, 0] = logs
    growth1, effect1, growth2, effect2 = rates.unbind(1)
    clock = torch.zeros_like(growth1)
    rows = _Rows(
        place=torch.arange(len(rates), device=rates.device),
        growth=torch.stack([growth1, -growth2]),
        effect=torch.stack([-effect1, effect2]),
        logs=logs.unsqueeze(1).expand(2, len(rates)),
        clock=clock,
        step=clock + interval / _FIRST_STEPS,
        reached=clock.long(),
    )
    for _ in range(_MAX_STEPS):
        before = rows.reached
        rows = _step(rows, interval)
        arrived = (rows.reached > before) & (rows.reached < num_times)
        solution[rows.place[arrived], rows.reached[arrived]] = rows.logs[:, arrived].T
        waiting = rows.reached < num_times - 1
        waiting &= rows.step > _SHORTEST_STEP * interval
        left = int(waiting.sum())
        if left == 0:
            break
        if left < (1 - _DONE_SHARE) * len(waiting):
            rows = _Rows(*(field[..., waiting] for field in rows))
    # Never the beginning of a solution without its end.
    return torch.where(solution[:, -1:].isnan(), math.nan, solution)


def _step(rows: _Rows, interval: float) -> _Rows:
    """Try one step of each row, and keep those whose error is small."""
    target = interval * (rows.reached + 1).to(rows.clock)
    arrives = rows.clock + rows.step >= target
    step = torch.where(arrives, target - rows.clock, rows.step)
    slopes = rows.logs.new_empty((len(_STAGES) + 1, *rows.logs.shape))
    logs = rows.logs
    slopes[0] = _slope(rows, logs)
    for stage, weights in enumerate(_STAGES, 1):
        logs = rows.logs + step * _combine(weights, slopes)
        slopes[stage] = _slope(rows, logs)
    error = (step * _combine(_ERROR, slopes)).abs().amax(0) / _TOLERANCE
    # Written so that NaN is refused.
    kept = error <= 1
    factor = (_SAFETY * error ** (-1 / 5)).nan_to_num(_LEAST_FACTOR)
    proposed = step * factor.clamp(_LEAST_FACTOR, _LARGEST_FACTOR)
    # A step that a time cut short says little about the next.
    shortened = torch.maximum(proposed, rows.step)
    arrives = arrives & kept
    clock = torch.where(arrives, target, rows.clock + step)
    return rows._replace(
        logs=torch.where(kept, logs, rows.logs),
        clock=torch.where(kept, clock, rows.clock),
        step=torch.where(arrives, shortened, proposed),
        reached=rows.reached + arrives,
    )


def _slope(rows: _Rows, logs: Tensor) -> Tensor:
    return torch.addcmul(rows.growth, rows.effect, logs.exp().flip(0))


def _combine(weights: tuple[float, ...], slopes: Tensor) -> Tensor:
    """Weighted sum of the first slopes, `(K, 2, N)` -> `(2, N)`."""
    first = slopes[: len(weights)].flatten(1)
    return (slopes.new_tensor(weights) @ first).reshape(slopes.shape[1:])
