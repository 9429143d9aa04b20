"""A kernel that proposes from q(theta|x), and now and then as another kernel does.

What q covers, a chain crosses in a step; what it misses, the other kernel walks into
and out of. Proposals of q do not depend on where a chain stands, so that those of many
steps are made and evaluated at once.

The default kernel learns a mixture m to propose from as well. Its draws and those of q
are taken as draws of one density, s m + (1 - s) q. Where either of the two covers the
posterior, so does this one, and no chain waits there for long.

References:
    Tierney (1994), Annals of Statistics 22(4), sections 2.3.3 and 2.4; Hesterberg
    (1995), Technometrics 37(2), for a density that defends another.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc.kernel import Info, Kernel
from sbi_aalr.mcmc.kernels import independence, jump_walk
from sbi_aalr.mcmc.kernels.jump_walk import Walk
from sbi_aalr.mcmc.kernels.mix import mix
from sbi_aalr.mcmc.mixture_fit import MixtureFit
from sbi_aalr.mcmc.run import block_size
from sbi_aalr.sampling.guided import Guide
from sbi_aalr.sampling.plan import Plan

# What is known of x and the mixture, to jump, and the walk.
_Parameters: TypeAlias = tuple[tuple[Tensor, MixtureFit], Walk]

# Steps of the other kernel among ten.
_SHARE = 0.2
# Beside the default kernel: draws of its mixture among those of both, and its walk.
_DEFENSIVE_SHARE, _WALK_SHARE = 0.4, 0.04

# Draws of the target that a draw of q must be worth, at least, to propose.
LEAST_SHARE = 0.05
# Chains in warm-up, fewer where they only tune; steps from one draw to the next.
_POPULATION, _SMALL_POPULATION, WARMUP_THIN = 32, 8, 2


def follow(plan: Plan, guide: Guide, x: Tensor) -> Plan:
    """A plan whose kernel proposes from q for observations `(B, *event_shape)`.

    Chains that start from draws of q, weighted, need little warm-up: it keeps as many
    draws, fewer steps apart.
    """
    settings, thin = plan.settings, plan.guided_thin or plan.thin
    num_draws = settings.warmup_steps // max(plan.thin, block_size(plan.kernel))
    num_steps = num_draws * max(thin, WARMUP_THIN)
    kernel = (
        guide_jumps(guide, x)
        if _has_default_kernel(plan)
        else guide_kernel(guide, x, plan.kernel)
    )
    return plan._replace(
        kernel=kernel,
        settings=replace(settings, warmup_steps=num_steps),
        thin=thin,
    )


def count_warmed_up(plan: Plan) -> int:
    """Chains to warm up for a plan: what the default kernel needs the starts tell."""
    few = _SMALL_POPULATION if _has_default_kernel(plan) else _POPULATION
    return max(plan.num_chains, few)


def _has_default_kernel(plan: Plan) -> bool:
    """By name, as a kernel that was sent to a worker is another object there."""
    return plan.settings.kernel == "jump_walk"


def guide_kernel(guide: Guide, x: Tensor, kernel: Kernel) -> Kernel:
    """Mix a kernel, not the default one, with proposals from q.

    Its parameters hold all that it needs to know of the observations, so that one that
    was made for some serves others too, with their parameters.

    Args:
        guide: What draws from q, in the units that are sampled in.
        x: The observations that its parameters are built for, `(B, *event_shape)`.
        kernel: The other kernel.

    Returns:
        The mixture.
    """

    def build(generator: Generator, starts: Tensor) -> Tensor:
        return guide.embed(x)

    own = independence.make_kernel(build, guide.draw_embedded, guide.log_density)
    return mix([own, kernel], [1 - _SHARE, _SHARE])


def guide_jumps(guide: Guide, x: Tensor) -> Kernel:
    """Let the jumps of the default kernel come from its mixture and from q."""

    def build(generator: Generator, starts: Tensor) -> _Parameters:
        fit, walk = jump_walk.build(generator, starts)
        return (guide.embed(x), fit), walk

    def draw(
        generator: Generator, parameters: tuple[Tensor, MixtureFit], num_samples: int
    ) -> tuple[Tensor, Tensor]:
        embedded_x, fit = parameters
        # By chance, and the same for all observations, which do not know of each other.
        uniform = torch.rand(num_samples, generator=generator, device=embedded_x.device)
        # The smallest of them are those of the mixture, which come first.
        order = uniform.argsort().argsort()
        count = int((uniform < _DEFENSIVE_SHARE).sum())
        # At least one of each: neither draws nothing.
        own, _ = independence.draw(generator, fit, max(1, count))
        drawn, log_q = guide.draw_embedded(
            generator, embedded_x, max(1, num_samples - count)
        )
        log_q = torch.cat(
            (guide.log_density(embedded_x, own)[:count], log_q[: num_samples - count])
        )[order]
        position = torch.cat((own[:count], drawn[: num_samples - count]))[order]
        return position, _defend(log_q, independence.find_log_density(fit, position))

    def log_density(parameters: tuple[Tensor, MixtureFit], position: Tensor) -> Tensor:
        embedded_x, fit = parameters
        return _defend(
            guide.log_density(embedded_x, position),
            independence.find_log_density(fit, position),
        )

    jumps = independence.make_kernel(build, draw, log_density)
    both = mix([jumps, jump_walk.WALK], [1 - _WALK_SHARE, _WALK_SHARE])
    default = jump_walk.KERNEL

    def learn(parameters: _Parameters, how: Callable[[Any], Any]) -> _Parameters:
        """Learn as the default kernel does: of q there is nothing to learn."""
        (embedded_x, fit), walk = parameters
        fit, walk = how((fit, walk))
        return (embedded_x, fit), walk

    def tune(parameters: _Parameters, info: Info) -> _Parameters:
        return learn(parameters, lambda own: default.tune(own, info))

    def refit(
        generator: Generator, parameters: _Parameters, draws: Tensor
    ) -> _Parameters:
        return learn(parameters, lambda own: default.refit(generator, own, draws))

    def relearn(
        generator: Generator, parameters: _Parameters, draws: Tensor
    ) -> _Parameters:
        return learn(parameters, lambda own: default.relearn(generator, own, draws))

    return both._replace(build=build, tune=tune, refit=refit, relearn=relearn)


def _defend(log_q: Tensor, log_own: Tensor) -> Tensor:
    """Log of s m + (1 - s) q, nats."""
    return torch.logaddexp(
        log_q + math.log(1 - _DEFENSIVE_SHARE), log_own + math.log(_DEFENSIVE_SHARE)
    )
