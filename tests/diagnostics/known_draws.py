"""Draws that tests of chains share."""

import torch

from sbi_aalr.mcmc.chains import Chains


def draw_independent(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def to_chains(theta):
    """Wrap draws `(C, S, B, D)` with statistics that do not matter."""
    flags = torch.ones(theta.shape[:3])
    return Chains(theta, flags, flags, flags.bool())
