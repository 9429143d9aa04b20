"""Evaluate a log-ratio, whoever made it, and refuse what cannot be one."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

# A ratio estimator, or any function of theta `(N, D)` and x `(N, *event_shape)`.
LogRatio: TypeAlias = Callable[[Tensor, Tensor], Tensor]

# On a CPU, blocks that stay in the cache are faster; elsewhere only memory limits them.
_BLOCK_ROWS = {"cpu": 2**11}
_BLOCK_ROWS_ELSEWHERE = 2**17


def evaluate_log_ratio(log_ratio: LogRatio, theta: Tensor, x: Tensor) -> Tensor:
    """Evaluate log r(x|theta) row by row, in blocks and without gradients.

    Args:
        log_ratio: A ratio estimator or any callable `(theta, x) -> (N,)`.
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`, or `(1, *event_shape)` for all rows.

    Returns:
        Log-ratios, shape `(N,)`, float64, on the CPU, nats; minus infinity is allowed.

    Raises:
        TypeError: If `log_ratio` is no callable or returns no tensor.
        ValueError: If it returns another shape, NaN or plus infinity.
    """
    if not callable(log_ratio):
        raise TypeError(
            "`log_ratio` must be a ratio estimator or a callable (theta, x) -> (N,), "
            f"got {type(log_ratio).__name__}."
        )
    device = theta.device
    if isinstance(log_ratio, nn.Module):
        device = next((p.device for p in log_ratio.parameters()), device)
    rows = len(theta)
    size = _BLOCK_ROWS.get(device.type, _BLOCK_ROWS_ELSEWHERE)
    x = x.expand(rows, *x.shape[1:])
    blocks = []
    with torch.no_grad():
        for start in range(0, rows, size):
            block = slice(start, start + size)
            values = log_ratio(theta[block].to(device), x[block].to(device))
            blocks.append(_check_values(values, len(theta[block])))
    return torch.cat(blocks)


def _check_values(values: object, rows: int) -> Tensor:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"`log_ratio` must return a torch tensor, got {type(values).__name__}."
        )
    if values.shape != (rows,):
        raise ValueError(
            f"`log_ratio` must return one number a row, ({rows},), got "
            f"{tuple(values.shape)}. Give it theta (N, D) and x (N, *event_shape)."
        )
    wrong = torch.isnan(values) | torch.isposinf(values)
    if wrong.any():
        raise ValueError(
            "`log_ratio` must return no NaN and no plus infinity, got "
            f"{int(wrong.sum())} of them in {rows} rows. Look at the network's logits."
        )
    return values.double().cpu()
