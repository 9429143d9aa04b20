"""Draws that tests of chains share."""

import torch

from sbi_aalr.mcmc.chains import Chains


def draw_independent(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def to_chains(theta):
    """Wrap draws `(C, S, B, D)` with statistics that do not matter."""
    flags = torch.ones(theta.shape[:3])
    return Chains(theta, flags, flags, flags.bool())


def make_chains(num_chains=2, num_draws=5, num_observations=3, num_parameters=4):
    """Chains in which every entry of theta spells its own indices."""
    shape = (num_chains, num_draws, num_observations)
    c, s, b, d = torch.meshgrid(
        *(torch.arange(float(n)) for n in (*shape, num_parameters)), indexing="ij"
    )
    generator = torch.Generator().manual_seed(1)
    return Chains(
        theta=1000 * c + 100 * s + 10 * b + d,
        log_prob=(1000 * c + 100 * s + 10 * b)[..., 0],
        acceptance_rate=torch.rand(shape, generator=generator),
        accepted=torch.rand(shape, generator=generator) < 0.5,
    )
