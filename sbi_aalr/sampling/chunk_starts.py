"""Where the chains of a chunk of observations start."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.search import search
from sbi_aalr.mcmc.starts import choose_starts
from sbi_aalr.mcmc.tempering import Annealed
from sbi_aalr.sampling.target import BatchLogProb, Target

# Extents of all candidates beyond which no mode is looked for.
_LOST_EXTENTS = 10
# Annealing alone was measured to lose modes in more dimensions.
_MAX_ANNEALED_DIM = 12
# Ancestors for each chain; modes that were lost had fewer.
LEAST_ANCESTOR_SHARE = 0.04
# Where all are searched, kernels begin with what so many starts say of the shapes.
_SEARCHED = 1_000


def find_starts(
    generator: Generator,
    log_prob_fn: BatchLogProb,
    target: Target,
    candidates: Tensor,
    log_weight: Tensor | None,
    shape: tuple[int, int],
    *,
    max_steps: int,
    on_step: Callable[[int], object],
) -> Annealed:
    """Anneal the starts of all observations, and search where that loses modes.

    Args:
        generator: Source of randomness, on the device of the candidates.
        log_prob_fn: Log-density of all observations.
        target: Whose proposal the candidates are draws of.
        candidates: Draws, shape `(S, D)`.
        log_weight: Log-weights of the candidates, shape `(S, B)`; None to take them as
            they are.
        shape: Chains and observations, `(C, B)`.
        max_steps: Most steps of annealing.
        on_step: Called with the chains that moved in a step.

    Returns:
        Starts, shape `(C, B, D)`, and how many ancestors they have.
    """
    starts = choose_starts(
        generator,
        log_prob_fn,
        target.log_proposal,
        candidates,
        log_weight,
        shape,
        max_steps=max_steps,
        on_step=on_step,
    )
    if log_weight is None:
        return starts
    hard = starts.ancestor_share < LEAST_ANCESTOR_SHARE
    rows = torch.arange(shape[0], device=hard.device)
    if candidates.shape[-1] > _MAX_ANNEALED_DIM:
        hard = torch.ones_like(hard)
        rows = torch.arange(max(shape[0], _SEARCHED), device=hard.device)
    position, ancestor_share = starts.position[rows % shape[0]], starts.ancestor_share
    for observation in hard.nonzero()[:, 0]:
        found = search(
            generator,
            log_prob_fn.select(observation.unsqueeze(0)),
            target.log_proposal,
            candidates,
            log_weight[:, observation].unsqueeze(1),
            num_searches=int(hard.sum()),
            on_step=on_step,
        )
        # Down a target that rises for ever chains are lost; the warning stays then.
        if _is_lost(found.position, candidates):
            continue
        position[:, observation] = found.position[rows % len(found.position), 0]
        ancestor_share[observation] = found.ancestor_share[0]
    # Starts that repeat a few candidates descend from no more than these.
    usable_share = log_weight.isfinite().sum(dim=0) / shape[0]
    ancestor_share = torch.minimum(ancestor_share, usable_share)
    return Annealed(position, ancestor_share)


def _is_lost(position: Tensor, candidates: Tensor) -> bool:
    """Whether chains `(C, 1, D)` left the region of the candidates far behind."""
    low, high = candidates.amin(dim=0), candidates.amax(dim=0)
    room = _LOST_EXTENTS * (high - low)
    # Written so that NaN is lost.
    return not bool(((position > low - room) & (position < high + room)).all())
