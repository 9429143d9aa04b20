"""The default kernel: jumps between modes, and walks within them.

Eight steps in ten propose independently from a mixture learned in warm-up, and forget
where the chain stood; two in ten are a random walk with the local shapes of that same
mixture, which moves the chains that are where it fits badly.
"""

from typing import TypeAlias

from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info
from sbi_aalr.mcmc.kernels import independence, local_random_walk
from sbi_aalr.mcmc.kernels.mix import mix
from sbi_aalr.mcmc.mixture_fit import Fit

Parameters: TypeAlias = tuple[Fit, local_random_walk.Parameters]

_MIX = mix([independence.KERNEL, local_random_walk.KERNEL], [0.8, 0.2])


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Fit one mixture to the starts, `(C, B, D)`, for both parts."""
    fit = independence.build(generator, starts)
    return fit, local_random_walk.start(fit.mixture, starts)


def tune(parameters: Parameters, info: Info) -> Parameters:
    """Tune both parts; the walk takes its shapes from what the jumps have learned."""
    fit, walk = _MIX.tune(parameters, info)
    return fit, walk._replace(mixture=fit.mixture)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Keep both parts as they are: every step has tuned them."""
    return parameters


KERNEL = _MIX._replace(build=build, tune=tune, refit=refit)
