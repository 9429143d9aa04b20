"""Make one estimator of fitted structures: weigh, normalise, choose a proposal."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks.builder import float32_by_default
from sbi_aalr.networks.stack import Offset, Stack
from sbi_aalr.training.contrasts import (
    Contrasts,
    Pool,
    draw_contrasts,
    estimate_normaliser,
    evaluate,
)
from sbi_aalr.training.correct import Pairs, fit_correction
from sbi_aalr.training.offset import fit_offset
from sbi_aalr.training.stacking import Evidence, find_weights, measure_loss

_MOST_HELD_OUT = 2_000
# Contrasts of each held-out pair, fewer where there are few seconds.
_NUM_CONTRASTS, _FEW_CONTRASTS = 128, 32
_FEW_SECONDS = 5.0
# Rows to fit the offset to, contrasts of each, and rows for each second there is.
_OFFSET_ROWS, _OFFSET_CONTRASTS = 10_000, 64
_ROWS_A_SECOND = 500
# Rows to fit the correction to, contrasts of each, and its share of the time.
_CORRECTION_ROWS, _CORRECTION_CONTRASTS = 20_000, 8
_CORRECTION_SHARE = 0.5
# Weight of a density that is kept for its residuals alone.
_HARDLY = 1e-6
# With fewer held-out rows nothing can be chosen by them.
LEAST_HELD_OUT = 10


class Assembled(NamedTuple):
    """A stack, and how it came to be.

    Attributes:
        stack: The stack.
        weights: Weight of each structure, shape `(K,)`.
        losses: Held-out loss of each structure alone, shape `(K,)`, nats.
        loss: Held-out loss of the stack, nats.
    """

    stack: Stack
    weights: Tensor
    losses: Tensor
    loss: float


@float32_by_default()
@torch.no_grad()
def assemble(
    structures: Sequence[RatioEstimator],
    is_candidate: Sequence[bool],
    pool: Pool,
    held_out: tuple[Tensor, Tensor],
    training: tuple[Tensor, Tensor],
    generator: torch.Generator,
    seconds: float | None = None,
) -> Assembled:
    """Stack fitted structures by what they say about held-out pairs.

    Args:
        structures: Fitted ratio estimators.
        is_candidate: Which of them may be in the stack; the others only propose.
        pool: Draws of the prior that they were trained with.
        held_out: Pairs (theta, x) that none was trained on.
        training: Pairs that they were trained on, for the offset.
        generator: Source of randomness, on the device of the pairs.
        seconds: About how long it may take; None for as long as it takes.

    Returns:
        The stack.
    """
    is_short = seconds is not None and seconds < _FEW_SECONDS
    num_contrasts = _FEW_CONTRASTS if is_short else _NUM_CONTRASTS
    offset_rows = _OFFSET_ROWS
    if seconds is not None:
        offset_rows = min(offset_rows, max(20, int(seconds * _ROWS_A_SECOND)))
    theta, x = (rows[:_MOST_HELD_OUT] for rows in held_out)
    proposals = [s for s in structures if is_proposal(s)]
    contrasts = draw_contrasts(proposals, pool, theta, x, num_contrasts, generator)
    evidence = Evidence(
        torch.stack([evaluate(s, theta[None], x)[0] for s in structures]),
        torch.stack([evaluate(s, contrasts.theta, x) for s in structures]),
        contrasts.log_weight_joint,
        contrasts.log_weight,
    )
    alone = torch.eye(len(structures), dtype=theta.dtype, device=theta.device)
    losses = torch.stack([measure_loss(evidence, row).mean() for row in alone])
    allowed = [index for index, usable in enumerate(is_candidate) if usable]
    weights = torch.zeros(len(structures), dtype=torch.float32)
    weights[allowed] = find_weights(evidence.take(allowed)).cpu()
    order = [
        losses[i] if s in proposals else torch.inf for i, s in enumerate(structures)
    ]
    proposal = structures[int(torch.tensor(order).argmin())]
    stack = Stack(structures, weights, proposal=proposal).to(theta.device)
    loss = float(measure_loss(evidence, weights.to(theta)).mean())
    mended = None
    if not is_short:
        count = _CORRECTION_CONTRASTS
        own, x_own = (part[:_CORRECTION_ROWS] for part in training)
        drawn = draw_contrasts(proposals, pool, own, x_own, count, generator)
        other = draw_contrasts(proposals, pool, theta, x, 4 * count, generator)
        # The correction sees the residuals of the density that proposes, at least.
        seen = weights.clone()
        place = next(i for i, s in enumerate(structures) if s is proposal)
        seen[place] = max(float(seen[place]), _HARDLY)
        with torch.enable_grad():
            found = fit_correction(
                Stack(structures, seen, None, proposal).to(theta.device),
                Pairs(own, x_own, drawn),
                Pairs(theta, x, other),
                seconds and _CORRECTION_SHARE * seconds,
            )
        if found is not None:
            mended, gain = found
            loss, weights = loss - gain, seen
            stack = Stack(structures, weights, None, proposal, mended)
    x_training = training[1][:offset_rows]
    normalisers = _measure_normalisers(
        stack, proposals, pool, training[0][:offset_rows], x_training, generator
    )
    net = getattr(proposal.embedding_net_x, "embedding_net", None)
    offset = Offset(x_training, net).to(theta.device)
    with torch.enable_grad():
        is_useful = fit_offset(offset, x_training, normalisers, seconds)
    if is_useful:
        offset.eval().requires_grad_(False)
        stack = Stack(structures, weights, offset, proposal, mended)
    return Assembled(stack.to(theta.device), weights, losses.cpu(), loss)


def is_proposal(structure: RatioEstimator) -> bool:
    """Whether it is a density of theta that can be drawn from."""
    return getattr(structure.net, "side", None) == "posterior"


def _measure_normalisers(
    stack: Stack,
    proposals: Sequence[RatioEstimator],
    pool: Pool,
    theta: Tensor,
    x: Tensor,
    generator: torch.Generator,
) -> Tensor:
    contrasts: Contrasts = draw_contrasts(
        proposals, pool, theta, x, _OFFSET_CONTRASTS, generator
    )
    return estimate_normaliser(evaluate(stack, contrasts.theta, x), contrasts)
