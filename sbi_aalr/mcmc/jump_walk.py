"""The default kernel: jumps between modes, and walks within them.

Seven chains in ten propose independently from a mixture fitted in warm-up, and forget
where they stood; three in ten take a random walk with the local shapes of that same
mixture, which moves the chains that are where it fits badly.
"""

from typing import TypeAlias

from torch import Generator, Tensor

from sbi_aalr.mcmc import independence, local_random_walk
from sbi_aalr.mcmc.mixture import mix
from sbi_aalr.mcmc.student_mixture import StudentMixture

Parameters: TypeAlias = tuple[StudentMixture, local_random_walk.Parameters]


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Fit one mixture to the starts, `(C, B, D)`, for both parts."""
    walk = local_random_walk.build(generator, starts)
    return walk.mixture, walk


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Fit one mixture to a window's draws, `(S, C, B, D)`, for both parts."""
    walk = local_random_walk.refit(generator, parameters[1], draws)
    return walk.mixture, walk


KERNEL = mix([independence.KERNEL, local_random_walk.KERNEL], [0.7, 0.3])._replace(
    build=build, refit=refit
)
