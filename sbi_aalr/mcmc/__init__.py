"""Markov kernels as pure torch functions, and the loop that runs them.

A new kernel is one file and one line in `KERNELS`.
"""

from sbi_aalr.mcmc import (
    adaptive_random_walk,
    differential_evolution,
    independence,
    local_random_walk,
    random_walk,
)
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State
from sbi_aalr.mcmc.mixture import mix

KERNELS = {
    "jump_walk": mix([independence.KERNEL, local_random_walk.KERNEL], [0.7, 0.3]),
    "random_walk": random_walk.KERNEL,
    "adaptive_random_walk": adaptive_random_walk.KERNEL,
    "differential_evolution": differential_evolution.KERNEL,
    "independence": independence.KERNEL,
}

__all__ = ["KERNELS", "Chains", "Info", "Kernel", "Proposal", "State", "mix"]
