"""Evaluate a log-ratio, whoever made it, and refuse what cannot be one."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sbi_aalr.checks import keep_digits

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
        ValueError: If it raises, or returns another shape, NaN or plus infinity.
    """
    device = _find_device(log_ratio, theta.device)
    x = _round(log_ratio, x)
    rows = len(theta)
    size = _BLOCK_ROWS.get(device.type, _BLOCK_ROWS_ELSEWHERE)
    x = x.expand(rows, *x.shape[1:])
    blocks = []
    with torch.no_grad():
        for start in range(0, rows, size):
            block = slice(start, start + size)
            rows_of_both = theta[block].to(device), x[block].to(device)
            values = _call(log_ratio, *rows_of_both)
            blocks.append(_check_values(values, len(theta[block])))
    return torch.cat(blocks)


def fix_rows(log_ratio: LogRatio, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Fix data, for parameters to come, and refuse what cannot be a log-ratio.

    A ratio estimator embeds x once, and a block of theta once for all x.

    Args:
        log_ratio: A ratio estimator or any callable `(theta, x) -> (N,)`.
        x: Data, shape `(B, *event_shape)`.

    Returns:
        A function of theta `(N, D)` that gives log-ratios with all x, `(N, B)`,
        float64, on the CPU, nats; it raises as `evaluate_log_ratio` does.
    """
    if not isinstance(log_ratio, nn.Module) or not _is_estimator(log_ratio):
        return lambda theta: torch.stack(
            [evaluate_log_ratio(log_ratio, theta, row[None]) for row in x], dim=1
        )
    # Imported here because it loads sbi, which takes seconds.
    from sbi_aalr.networks.pairs import fix_observations, is_separable

    device = _find_device(log_ratio, x.device)
    x = _round(log_ratio, x)
    with torch.no_grad():
        evaluate = _call(fix_observations, log_ratio, x.to(device))
    # One matrix product makes all pairs, or each pair is a row of a block.
    each = 1 if is_separable(log_ratio) else len(x)
    size = max(1, _BLOCK_ROWS.get(device.type, _BLOCK_ROWS_ELSEWHERE) // each)

    @torch.no_grad()
    def evaluate_all(theta: Tensor) -> Tensor:
        parts = theta.to(device).split(size)
        return _refuse_nan(torch.cat([_call(evaluate, part) for part in parts]))

    return evaluate_all


def _call(evaluate: Callable[..., Any], *values: Any) -> Any:
    """Call what evaluates a log-ratio, and name it and the shapes if it fails."""
    try:
        return evaluate(*values)
    except Exception as error:
        shapes = [tuple(v.shape) for v in values if isinstance(v, Tensor)]
        raise ValueError(
            f"`log_ratio` must take theta (N, D) and x (N, *event_shape), but raised "
            f"{type(error).__name__}: {error} (for {', '.join(map(str, shapes))}). Is "
            "it for this prior and these data?"
        ) from error


def _find_device(log_ratio: LogRatio, otherwise: torch.device) -> torch.device:
    """Where a network is; anything else takes what it is given."""
    if not callable(log_ratio):
        raise TypeError(
            "`log_ratio` must be a ratio estimator or a callable (theta, x) -> (N,), "
            f"got {type(log_ratio).__name__}."
        )
    if isinstance(log_ratio, nn.Module):
        return next((p.device for p in log_ratio.parameters()), otherwise)
    return otherwise


def _round(log_ratio: LogRatio, x: Tensor) -> Tensor:
    """Data with as many digits as can be told apart."""
    if not isinstance(log_ratio, nn.Module):
        return keep_digits(x)
    # Imported here because it loads sbi, which takes seconds.
    from sbi_aalr.networks.digits import round_for

    return round_for(log_ratio, x)


def _is_estimator(log_ratio: nn.Module) -> bool:
    # Imported here because it loads sbi, which takes seconds.
    from sbi.neural_nets.ratio_estimators import RatioEstimator

    return isinstance(log_ratio, RatioEstimator)


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
    return _refuse_nan(values)


def _refuse_nan(values: Tensor) -> Tensor:
    wrong = torch.isnan(values) | torch.isposinf(values)
    if wrong.any():
        raise ValueError(
            "`log_ratio` must return no NaN and no plus infinity, got "
            f"{int(wrong.sum())} of them in {values.numel()} rows. Look at the "
            "network's logits."
        )
    return values.double().cpu()
