"""Markov kernels as pure torch functions, and the loop that runs them.

A new kernel is one file and one line in `KERNELS`.
"""

from sbi_aalr.mcmc import (
    adaptive_random_walk,
    differential_evolution,
    hmc,
    independence,
    jump_walk,
    random_walk,
)
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.custom import from_proposal
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State
from sbi_aalr.mcmc.mixture import mix

KERNELS = {
    "jump_walk": jump_walk.KERNEL,
    "random_walk": random_walk.KERNEL,
    "adaptive_random_walk": adaptive_random_walk.KERNEL,
    "differential_evolution": differential_evolution.KERNEL,
    "independence": independence.KERNEL,
    "hmc": hmc.KERNEL,
}

__all__ = [
    "KERNELS",
    "Chains",
    "Info",
    "Kernel",
    "Proposal",
    "State",
    "from_proposal",
    "mix",
]
