"""Fit the correction of a stack: a classifier against contrasts of known density.

Contrasts come from q(theta|x) and from the prior. All but the correction is fixed, so
its logits are computed once.
"""

import copy
import time
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from sbi_aalr.networks.correction import Correction, CorrectionInput
from sbi_aalr.networks.stack import Mended, Stack
from sbi_aalr.networks.trials import build_alike
from sbi_aalr.training.contrasts import Contrasts, evaluate
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.recipe import Recipe

_RECIPE = Recipe(128, 24, 2e-3, 0.02, weight_decay=0.01)
_PATIENCE = 5
_CLIP_NORM = 5.0
# What is worth another network in every evaluation: nats, and standard errors.
_LEAST_GAIN = 0.01
_LEAST_EVIDENCE = 2.0


class Pairs(NamedTuple):
    """Pairs with contrasts of each x.

    Attributes:
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.
        contrasts: Contrasts of each x.
    """

    theta: Tensor
    x: Tensor
    contrasts: Contrasts


def fit_correction(
    stack: Stack, training: Pairs, held_out: Pairs, seconds: float | None = None
) -> tuple[Mended, float] | None:
    """Fit a correction, and tell whether it is worth its cost.

    Args:
        stack: What to correct, without a correction.
        training: Pairs to fit it to.
        held_out: Pairs to choose the pass by.
        seconds: About how long it may take; None for as long as it takes.

    Returns:
        The correction, and by how much it lowers the held-out loss, nats; None where
        that is too little.
    """
    started = time.perf_counter()
    device = training.x.device
    net = _find_embedding(stack)
    mended = Mended(
        CorrectionInput(training.theta),
        build_alike(
            partial(CorrectionInput, embedding_net=net),
            training.x,
            stack.embedding_net_x,
        ),
        Correction(list(stack.net.heads)),
    )
    parts = nn.ModuleList(mended).to(device)
    logits, others = _add_up(stack, training), _add_up(stack, held_out)
    before = _lose(others)
    best, best_losses, weights = float(before.mean()), before, None
    optimizers = build_optimizers(parts, _RECIPE)
    num_passes = _RECIPE.num_passes or 1
    batches = max(1, len(training.x) // _RECIPE.batch_size)
    step, waited = 0, 0
    for _ in range(num_passes):
        parts.train()
        order = torch.randperm(len(training.x), device=device)
        for rows in order[: batches * _RECIPE.batch_size].split(_RECIPE.batch_size):
            factor = 1 - step / (num_passes * batches)
            corrections = _correct(stack, mended, training, rows)
            loss = _lose(logits[:, rows] + corrections).mean()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["initial_lr"]
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            clip_grad_norm_(parts.parameters(), _CLIP_NORM)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
        parts.eval()
        losses = _lose(others + _correct_all(stack, mended, held_out))
        waited += 1
        if float(losses.mean()) < best:
            best, best_losses, waited = float(losses.mean()), losses, 0
            weights = copy.deepcopy(parts.state_dict())
        is_late = seconds is not None and time.perf_counter() - started > seconds
        if waited >= _PATIENCE or is_late:
            break
    gain = before - best_losses
    error = float(gain.std()) / len(gain) ** 0.5
    if weights is None or float(gain.mean()) < max(
        _LEAST_GAIN, _LEAST_EVIDENCE * error
    ):
        return None
    parts.load_state_dict(weights)
    parts.eval().requires_grad_(False)
    return mended, float(gain.mean())


def _find_embedding(stack: Stack) -> nn.Module | None:
    """The fitted net of the user's, which is copied and not trained further."""
    source = stack.proposal or stack.stacked[0]
    net = getattr(source.embedding_net_x, "embedding_net", None)
    if net is None:
        return None
    return copy.deepcopy(net).requires_grad_(False)


@torch.no_grad()
def _add_up(stack: Stack, pairs: Pairs) -> Tensor:
    """Logits of each x, the true parameters' first, shape `(S + 1, N)`, nats."""
    theta = torch.cat((pairs.theta.unsqueeze(0), pairs.contrasts.theta))
    log_weight = torch.cat(
        (pairs.contrasts.log_weight_joint.unsqueeze(0), pairs.contrasts.log_weight)
    )
    return evaluate(stack, theta, pairs.x) + log_weight


def _lose(logits: Tensor) -> Tensor:
    """InfoNCE of each x, shape `(N,)`, nats."""
    return logits.logsumexp(dim=0) - logits[0]


def _correct(stack: Stack, mended: Mended, pairs: Pairs, rows: Tensor) -> Tensor:
    """Corrections of some x and all their contrasts, shape `(S + 1, R)`, nats."""
    theta = torch.cat((pairs.theta[rows].unsqueeze(0), pairs.contrasts.theta[:, rows]))
    count = len(theta)
    flat, x = theta.flatten(0, 1), pairs.x[rows]
    residuals = []
    with torch.no_grad():
        for member in stack.stacked:
            if hasattr(member.net, "residuals"):
                embedded_x = member.embedding_net_x(x).repeat(count, 1)
                embedded_theta = member.embedding_net_theta(flat)
                residuals.append(member.net.residuals(embedded_theta, embedded_x))
    from_x = mended.x(x).repeat(count, 1)
    return mended.head(mended.theta(flat), from_x, residuals).view(count, len(rows))


@torch.no_grad()
def _correct_all(stack: Stack, mended: Mended, pairs: Pairs) -> Tensor:
    rows = torch.arange(len(pairs.x), device=pairs.x.device)
    size = max(1, 2**14 // (len(pairs.contrasts.theta) + 1))
    parts = [_correct(stack, mended, pairs, part) for part in rows.split(size)]
    return torch.cat(parts, dim=1)
