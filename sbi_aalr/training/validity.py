"""Fit how often a simulator succeeds, from the parameters where it did and did not."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sbi_aalr.checks import check_finite
from sbi_aalr.networks.scale import Scale
from sbi_aalr.sampling.validity import Validity, apply_layers
from sbi_aalr.seeding import seeded

_WIDTH = 32
_STEPS, _BATCH_ROWS, _RATE, _DECAY = 1_500, 1_024, 5e-3, 1e-3
_HELD_OUT_SHARE = 0.1
# Steps between two looks at what is held out.
_STEPS_BETWEEN = 50
# More rows of either kind say hardly more.
_MOST_ROWS = 200_000


def fit_validity(valid: Tensor, failed: Tensor, seed: int = 0) -> Validity:
    """Fit the probability of success as a function of theta.

    The classifier begins as the constant share, and is kept as it was when it did best
    on held-out parameters: few failures, or failures that have nothing to do with
    theta, leave it constant.

    Args:
        valid: Parameters of simulations that succeeded, shape `(N, D)`, N at least 2.
        failed: Parameters of those that failed, shape `(F, D)`, F at least 1.
        seed: Makes the fit repeatable; the global generators are left as they were.

    Returns:
        The probability, as a function.

    Raises:
        ValueError: If parameters are not finite, differ in their width, or there are
            none of either kind.
    """
    for name, theta in (("valid", valid), ("failed", failed)):
        check_finite(name, theta)
        if theta.ndim != 2 or not len(theta) or theta.shape[1:] != valid.shape[1:]:
            raise ValueError(
                f"`{name}` must have rows of parameters, as many as `valid`, got shape "
                f"{tuple(theta.shape)}."
            )
    with seeded(seed), torch.inference_mode(False), torch.enable_grad():
        return _fit(valid.detach().cpu().float(), failed.detach().cpu().float())


def _fit(valid: Tensor, failed: Tensor) -> Validity:
    total = len(valid) / len(failed)
    valid, failed = _thin(valid), _thin(failed)
    scale = Scale(torch.cat((valid, failed)))
    logarithmic = scale.logarithmic
    if logarithmic is None:
        logarithmic = torch.zeros(valid.shape[1], dtype=torch.bool)
    with torch.no_grad():
        training, held_out = _divide(scale(valid), scale(failed))
    weights = _make_weights(valid.shape[1], len(valid) / len(failed))
    best = _descend(weights, training, held_out)
    # Rows that were left out count in the share.
    best[-1] += torch.tensor(total * len(failed) / len(valid)).log()
    return Validity(scale.location, scale.spread, logarithmic.float(), best)


def _thin(theta: Tensor) -> Tensor:
    return theta[torch.randperm(len(theta))[:_MOST_ROWS]]


def _divide(
    valid: Tensor, failed: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Scaled rows with their labels, those to train on and those held out."""
    rows = torch.cat((valid, failed))
    labels = torch.cat((torch.ones(len(valid)), torch.zeros(len(failed))))
    order = torch.randperm(len(rows))
    rows, labels = rows[order], labels[order]
    count = max(1, int(_HELD_OUT_SHARE * len(rows)))
    return (rows[count:], labels[count:]), (rows[:count], labels[:count])


def _make_weights(width: int, odds: float) -> list[Tensor]:
    """Weights that give every row the log-odds of all."""
    weights = []
    for inputs in (width, _WIDTH):
        weights.append(torch.randn(_WIDTH, inputs) / inputs**0.5)
        weights.append(torch.zeros(_WIDTH))
    weights += [torch.zeros(1, _WIDTH), torch.tensor([odds]).log()]
    return [tensor.requires_grad_() for tensor in weights]


def _descend(
    weights: list[Tensor],
    training: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
) -> list[Tensor]:
    """Take steps; return the weights that did best on what is held out."""
    rows, labels = training
    optimizer = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    best, least = [tensor.detach().clone() for tensor in weights], float("inf")
    for step in range(_STEPS + 1):
        if step % _STEPS_BETWEEN == 0:
            with torch.no_grad():
                loss = float(_measure(weights, *held_out))
            if loss < least:
                best, least = [tensor.detach().clone() for tensor in weights], loss
        chosen = torch.randint(len(rows), (min(_BATCH_ROWS, len(rows)),))
        optimizer.zero_grad(set_to_none=True)
        _measure(weights, rows[chosen], labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return best


def _measure(weights: list[Tensor], rows: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, nats."""
    return binary_cross_entropy_with_logits(apply_layers(weights, rows), labels)
