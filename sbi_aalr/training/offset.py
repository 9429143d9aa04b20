"""Fit the offset c(x) that brings a stack's mean ratio over the prior to one."""

import torch
from torch import Tensor

from sbi_aalr.networks.regression import regress
from sbi_aalr.networks.stack import Offset

_NUM_STEPS = 600
_STEPS_A_SECOND = 100
_BATCH_ROWS = 256
_LEARNING_RATE = 3e-3
_HELD_OUT_SHARE = 0.1
# Within this standard deviation over the data, nats, a constant is as good.
_SMALL = 0.02
# One row of the batch never weighs more than e to the power of this.
_LARGEST_EXCESS = 3.0
# Normalisers that are further than this from the middle, nats, were not found.
_OUTLIER = 30.0
# A regression on more, as of images, would take longer than all else.
_MOST_FEATURES = 512


def fit_offset(
    offset: Offset, x: Tensor, log_normaliser: Tensor, seconds: float | None = None
) -> bool:
    """Fit c(x) to log-normalisers that are known up to noise.

    The loss E[exp(c(x) + log Z) - c(x)] is least where exp(-c(x)) is the mean of Z,
    however noisy its estimates are.

    Args:
        offset: Fitted in place, on the device of the data.
        x: Data, shape `(N, *event_shape)`.
        log_normaliser: Estimates of log Z(x), shape `(N,)`, nats.
        seconds: About how long it may take; None for as long as it takes.

    Returns:
        Whether an offset is of use.
    """
    log_normaliser = log_normaliser.detach().float()
    if float(log_normaliser.abs().max()) < _SMALL:
        return False
    with torch.no_grad():
        offset.intercept.fill_(-float(log_normaliser.median()))
        _fit_quadratic(offset, x, log_normaliser)
    num_held_out = int(_HELD_OUT_SHARE * len(x))
    held_out = slice(0, num_held_out)
    best, weights = _measure(offset, x[held_out], log_normaliser[held_out]), None
    if num_held_out < 2 or float(log_normaliser.std()) < _SMALL:
        return True
    num_steps = _NUM_STEPS
    if seconds is not None:
        num_steps = min(num_steps, max(10, int(seconds * _STEPS_A_SECOND)))
    optimizer = torch.optim.AdamW(
        [p for p in offset.parameters() if p.requires_grad], _LEARNING_RATE
    )
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 - step / num_steps)
        rows = torch.randint(num_held_out, len(x), (_BATCH_ROWS,), device=x.device)
        optimizer.zero_grad(set_to_none=True)
        _lose(offset(x[rows])[:, 0], log_normaliser[rows]).mean().backward()
        optimizer.step()
        if (step + 1) % (num_steps // 10) == 0:
            value = _measure(offset, x[held_out], log_normaliser[held_out])
            if value < best:
                best = value
                weights = {k: v.clone() for k, v in offset.state_dict().items()}
    if weights is not None:
        offset.load_state_dict(weights)
    else:
        torch.nn.init.zeros_(offset.last.weight)
    return True


@torch.no_grad()
def measure_level_error(offset: Offset, x: Tensor, log_normaliser: Tensor) -> float:
    """How far the level of the log-ratio is off at one x as against another.

    Args:
        offset: Fitted, in evaluation mode.
        x: Data, shape `(N, *event_shape)`.
        log_normaliser: Estimates of log Z(x), shape `(N,)`, nats.

    Returns:
        Median distance of c(x) + log Z(x) from its median, nats.
    """
    level = offset(x)[:, 0] + log_normaliser
    return float((level - level.median()).abs().median())


def _fit_quadratic(offset: Offset, x: Tensor, log_normaliser: Tensor) -> None:
    """Set the quadratic by ridge regression, where it helps on what is held out."""
    num_held_out = int(_HELD_OUT_SHARE * len(x))
    if num_held_out < 2 or 2 * x[0].numel() > _MOST_FEATURES:
        return
    held_out = x[:num_held_out], log_normaliser[:num_held_out]
    before = _measure(offset, *held_out), offset.intercept.clone()
    middle = log_normaliser.median()
    targets = -log_normaliser.clamp(middle - _OUTLIER, middle + _OUTLIER)
    features = offset.find_features(x)[num_held_out:]
    found = regress(features, targets[num_held_out:].unsqueeze(1))
    offset.slope.copy_(found.slope)
    offset.intercept.copy_(found.intercept)
    if _measure(offset, *held_out) > before[0]:
        offset.slope.zero_()
        offset.intercept.copy_(before[1])


def _lose(offset: Tensor, log_normaliser: Tensor) -> Tensor:
    excess = offset + log_normaliser
    # Linear beyond the bound: an outlier pulls, and does not tear.
    bounded = excess.clamp(max=_LARGEST_EXCESS)
    return bounded.exp() * (1 + excess - bounded) - offset


@torch.no_grad()
def _measure(offset: Offset, x: Tensor, log_normaliser: Tensor) -> float:
    offset.eval()
    value = _lose(offset(x)[:, 0], log_normaliser).mean()
    offset.train()
    return float(value)
