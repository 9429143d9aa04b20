"""The kernels by name: a new one is one file in this folder and one line here."""

from sbi_aalr.mcmc.kernels import (
    adaptive_random_walk,
    differential_evolution,
    hmc,
    independence,
    jump_walk,
    random_walk,
)

KERNELS = {
    "jump_walk": jump_walk.KERNEL,
    "random_walk": random_walk.KERNEL,
    "adaptive_random_walk": adaptive_random_walk.KERNEL,
    "differential_evolution": differential_evolution.KERNEL,
    "independence": independence.KERNEL,
    "hmc": hmc.KERNEL,
}
