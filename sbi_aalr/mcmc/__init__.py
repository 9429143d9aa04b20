"""Markov kernels as pure torch functions, and the loop that runs them.

A new kernel is one file in `kernels` and one line in its table `KERNELS`.
"""

from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal, State
from sbi_aalr.mcmc.kernels import KERNELS
from sbi_aalr.mcmc.kernels.custom import from_proposal
from sbi_aalr.mcmc.kernels.mix import mix

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
