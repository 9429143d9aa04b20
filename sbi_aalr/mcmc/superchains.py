"""Superchains: chains that started near each other, which nested R-hat compares.

References:
    Margossian et al. (2024), arXiv:2110.13017.
"""

import torch
from torch import Tensor


def group_nearby(starts: Tensor, num_groups: int) -> Tensor:
    """Group chains by where they start.

    Chains are halved again and again along the parameter in which they spread most, so
    that chains that are stuck where they started are stuck in the same group.

    Args:
        starts: Shape `(C, B, D)`.
        num_groups: Number of groups of equal size, a power of two.

    Returns:
        Group of each chain, long, shape `(C', B)`; `C'` leaves out the last chains that
        would make the groups unequal.
    """
    size = starts.shape[0] // num_groups
    starts = starts[: size * num_groups]
    scaled = starts / starts.std(dim=0).clamp(min=1e-30)
    order = torch.arange(scaled.shape[0], device=starts.device)
    order = order.unsqueeze(1).expand(scaled.shape[:2])
    groups = 1
    while groups < num_groups:
        ordered = scaled.gather(0, order.unsqueeze(-1).expand_as(scaled))
        blocks = ordered.unflatten(0, (groups, -1))
        widest = blocks.var(dim=1).argmax(dim=-1)[:, None, :, None]
        key = blocks.gather(-1, widest.expand(*blocks.shape[:-1], 1)).squeeze(-1)
        rank = key.argsort(dim=1)
        order = order.unflatten(0, (groups, -1)).gather(1, rank).flatten(0, 1)
        groups *= 2
    group = torch.arange(scaled.shape[0], device=starts.device) // size
    group = group.unsqueeze(1).expand_as(order)
    return torch.empty_like(order).scatter_(0, order, group)
