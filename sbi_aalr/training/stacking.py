"""Weights of a stack, by the posterior log-density of held-out parameters."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

# Members that weigh less than this are dropped.
_LEAST_WEIGHT = 0.03
_LEAST_OF_ALL = 1e-6
# By how much a member must mend the held-out loss: nats, and standard errors.
_LEAST_GAIN = 2e-3
_LEAST_EVIDENCE = 1.0
# What weights may sum to, about, beyond one. Each member is a ratio by itself, so that
# their sum is the inverse temperature of the whole: where few rows are held out, more
# than one is over-confidence, and less mends that of members that over-fit.
_MOST_EXCESS = 0.1
# What a single small member may cost in the place of all, however large the error: that
# of few rows, or of losses with outliers, hides too much.
_MOST_COST = 0.02


class Evidence(NamedTuple):
    """What the members say about held-out pairs and their contrasts.

    Attributes:
        joint: Log-ratios of the true pairs, shape `(K, N)`, nats.
        contrasts: Those of the contrasts, shape `(K, S, N)`, nats.
        log_weight_joint: log p - log g of the true parameters, shape `(N,)`, nats.
        log_weight: The same of the contrasts, shape `(S, N)`, nats.
    """

    joint: Tensor
    contrasts: Tensor
    log_weight_joint: Tensor
    log_weight: Tensor

    def take(self, members: Sequence[int]) -> "Evidence":
        """The same of some members only."""
        rows = list(members)
        return self._replace(joint=self.joint[rows], contrasts=self.contrasts[rows])


def measure_loss(evidence: Evidence, weights: Tensor) -> Tensor:
    """InfoNCE of the weighted sum of log-ratios, for each held-out pair.

    Its contrasts have a known density g: with S of them, the loss is the negative
    log-density of the true parameters under the normalised posterior, plus log(S + 1)
    and what g has to do with it, which no weight changes.

    Args:
        evidence: What the members say.
        weights: Shape `(K,)`.

    Returns:
        Losses, shape `(N,)`, nats.
    """
    joint = weights @ evidence.joint + evidence.log_weight_joint
    contrasts = torch.tensordot(weights, evidence.contrasts, 1) + evidence.log_weight
    every = torch.cat((joint.unsqueeze(0), contrasts))
    return every.logsumexp(dim=0) - joint


def find_weights(evidence: Evidence, sizes: Sequence[int]) -> Tensor:
    """Find non-negative weights with the least loss, which is convex in them.

    By few rows their sum is hardly more than one, whatever the loss. Members that add
    too little are left out, least useful first, so that what is evaluated when sampling
    stays small. In the end one member takes the place of all that are left if it is
    smaller and hardly worse: where a closed form is right, a network that comes out as
    good has only noise to add.

    Args:
        evidence: What the members say.
        sizes: Numbers that were fitted in each member.

    Returns:
        Weights, shape `(K,)`, zero for members that are left out. One is positive.
    """
    evidence = Evidence(*(part.double() for part in evidence))
    chosen = list(range(len(evidence.joint)))
    weights = _minimise(evidence)
    losses = best = measure_loss(evidence, weights)
    while len(chosen) > 1:
        # First those that hardly weigh, whatever they are of use for.
        pairs = zip(chosen, weights.tolist(), strict=True)
        light = [index for index, weight in pairs if weight < _LEAST_WEIGHT]
        trials = []
        for index in light or chosen:
            rest = [other for other in chosen if other != index]
            part = evidence.take(rest)
            fewer = _minimise(part)
            trials.append((measure_loss(part, fewer), fewer, rest))
        new_losses, fewer, rest = min(trials, key=lambda trial: float(trial[0].mean()))
        if not light and _is_worse(new_losses, losses):
            break
        chosen, weights, losses = rest, fewer, new_losses
    # The whole may be worse than what is left, where members are wild.
    best = min(best, losses, key=lambda rows: float(rows.mean()))
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        if sizes[index] >= sum(sizes[one] for one in chosen):
            break
        part = evidence.take([index])
        alone = _minimise(part)
        losses = measure_loss(part, alone)
        is_close = float((losses - best).mean()) < _MOST_COST
        if alone > 0 and is_close and not _is_worse(losses, best):
            chosen, weights = [index], alone
            break
    found = torch.zeros(len(evidence.joint), dtype=weights.dtype)
    # Where nothing is better than the prior, one member says next to nothing.
    found[chosen] = weights.clamp(min=_LEAST_OF_ALL)
    return found.float()


def _is_worse(losses: Tensor, best: Tensor) -> bool:
    """Whether losses of the same pairs are greater by more than chance."""
    worse = losses - best
    error = float(worse.std()) / len(worse) ** 0.5
    return float(worse.mean()) > max(_LEAST_GAIN, _LEAST_EVIDENCE * error)


def _minimise(evidence: Evidence) -> Tensor:
    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(values, requires_grad=True)
        with torch.enable_grad():
            excess = (weights.sum() - 1).clamp_min(0) / _MOST_EXCESS
            # A prior, which many rows outweigh.
            loss = measure_loss(evidence, weights).mean() + excess**2 / (2 * num_rows)
            (gradient,) = torch.autograd.grad(loss, weights)
        return float(loss.detach()), gradient.numpy()

    count, num_rows = evidence.joint.shape
    start = np.full(count, 1 / count)
    found = minimize(
        evaluate, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 2.0)] * count
    )
    return torch.tensor(found.x)
