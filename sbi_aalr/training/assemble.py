"""Make one estimator of fitted structures: weigh, normalise, choose a proposal."""

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks.builder import float32_by_default
from sbi_aalr.networks.stack import Offset, Stack
from sbi_aalr.networks.trials import build_alike
from sbi_aalr.training.clock import Clock
from sbi_aalr.training.contrasts import (
    Contrasts,
    Pool,
    draw_contrasts,
    estimate_normaliser,
    evaluate,
)
from sbi_aalr.training.correct import Pairs, fit_correction
from sbi_aalr.training.offset import fit_offset, measure_level_error
from sbi_aalr.training.stacking import Evidence, find_weights, measure_loss

_MOST_HELD_OUT = 2_000
# Contrasts of each held-out pair, fewer where there are few seconds.
_NUM_CONTRASTS, _FEW_CONTRASTS = 128, 32
_FEW_SECONDS = 5.0
_EVIDENCE_SHARE = 0.4
# Rows to fit the offset to, contrasts of each, and the share of the time for them.
_OFFSET_ROWS, _OFFSET_CONTRASTS = 10_000, 64
_LEAST_OFFSET_ROWS, _OFFSET_SHARE = 200, 0.6
# Rows to fit the correction to, contrasts of each, its share of the time that is left,
# and what a row and contrast costs, in evaluations of a structure.
_CORRECTION_ROWS, _CORRECTION_CONTRASTS = 20_000, 8
_CORRECTION_SHARE, _CORRECTION_COST = 0.5, 5.0
# With fewer there is little to correct by.
_LEAST_CORRECTION_ROWS = 2_000
# Weight of a density that is kept for its residuals alone.
_HARDLY = 1e-6
# With fewer held-out rows nothing can be chosen by them.
LEAST_HELD_OUT = 10


class Assembled(NamedTuple):
    """A stack, and how it came to be.

    Attributes:
        stack: The stack.
        weights: Weight of each structure, shape `(K,)`.
        losses: Held-out loss of each structure alone, shape `(K,)`, nats; None where
            too few rows were held out to tell.
        loss: Held-out loss of the stack, nats, or None.
        level_error: See `measure_level_error`, nats.
    """

    stack: Stack
    weights: Tensor
    losses: Tensor | None = None
    loss: float | None = None
    level_error: float = 0.0


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
    follows_prior: bool = True,
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
        follows_prior: Whether the pool does. Where not, contrasts all come from it, as
            those of densities would have no known weight, and no offset is fitted.

    Returns:
        The stack.
    """
    clock = Clock(seconds)
    is_short = seconds is not None and seconds < _FEW_SECONDS
    theta, x = (rows[:_MOST_HELD_OUT] for rows in held_out)
    densities = [s for s in structures if is_proposal(s)]
    proposals = densities if follows_prior else []
    joint = torch.stack([evaluate(s, theta[None], x)[0] for s in structures])
    each = len(structures) * len(theta)
    if seconds is not None:
        # Again, as the first time takes longer.
        began = time.perf_counter()
        joint = torch.stack([evaluate(s, theta[None], x)[0] for s in structures])
        clock.learn(each, began)
    num_contrasts = _FEW_CONTRASTS
    if not is_short:
        affordable = clock.afford(_NUM_CONTRASTS, each, _EVIDENCE_SHARE)
        num_contrasts = max(min(_FEW_CONTRASTS, _NUM_CONTRASTS), affordable)
    began = time.perf_counter()
    contrasts = draw_contrasts(proposals, pool, theta, x, num_contrasts, generator)
    evidence = Evidence(
        joint,
        torch.stack([evaluate(s, contrasts.theta, x) for s in structures]),
        contrasts.log_weight_joint,
        contrasts.log_weight,
    )
    clock.learn(num_contrasts * each, began)
    alone = torch.eye(len(structures), dtype=theta.dtype, device=theta.device)
    losses = torch.stack([measure_loss(evidence, row).mean() for row in alone])
    allowed = [index for index, usable in enumerate(is_candidate) if usable]
    weights = torch.zeros(len(structures), dtype=torch.float32)
    sizes = [sum(p.numel() for p in structures[i].parameters()) for i in allowed]
    weights[allowed] = find_weights(evidence.take(allowed), sizes).cpu()
    order = [
        losses[i] if s in densities else torch.inf for i, s in enumerate(structures)
    ]
    proposal = structures[int(torch.tensor(order).argmin())]
    stack = Stack(structures, weights, proposal=proposal).to(theta.device)
    loss = float(measure_loss(evidence, weights.to(theta)).mean())
    mended, num_used = None, max(1, int((weights > 0).sum()))
    count = _CORRECTION_CONTRASTS
    wanted = min(_CORRECTION_ROWS, len(training[0]))
    num_rows = clock.afford(wanted, _CORRECTION_COST * count * num_used, 0.5)
    if not is_short and num_rows >= min(wanted, _LEAST_CORRECTION_ROWS):
        own, x_own = (part[:num_rows] for part in training)
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
                None if seconds is None else _CORRECTION_SHARE * (clock.left or 0.0),
            )
        if found is not None:
            mended, gain = found
            loss, weights = loss - gain, seen
            stack = Stack(structures, weights, None, proposal, mended)
    if not follows_prior:
        return Assembled(stack.to(theta.device), weights, losses.cpu(), loss)
    wanted = min(_OFFSET_ROWS, len(training[0]))
    affordable = clock.afford(wanted, _OFFSET_CONTRASTS * num_used, _OFFSET_SHARE)
    offset_rows = max(_LEAST_OFFSET_ROWS, affordable)
    x_training = training[1][:offset_rows]
    normalisers = _measure_normalisers(
        stack, proposals, pool, training[0][:offset_rows], x_training, generator
    )
    net = getattr(proposal.embedding_net_x, "embedding_net", None)
    build = partial(Offset, embedding_net=net)
    offset = build_alike(build, x_training, stack.embedding_net_x).to(theta.device)
    with torch.enable_grad():
        is_useful = fit_offset(offset, x_training, normalisers, clock.left)
    level_error = 0.0
    if is_useful:
        offset.eval().requires_grad_(False)
        stack = Stack(structures, weights, offset, proposal, mended)
        level_error = measure_level_error(offset, x_training, normalisers)
    return Assembled(stack.to(theta.device), weights, losses.cpu(), loss, level_error)


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
