"""What a run decides before it starts, where the user leaves it open."""

import math
import os
from dataclasses import replace
from typing import NamedTuple

from sbi_aalr.mcmc import KERNELS, Kernel
from sbi_aalr.sampling.settings import Settings

# With fewer draws a chain, R-hat and ESS are too noisy to stop on.
_MIN_DRAWS = 100
# R-hat needs every chain to have some hundred effective draws: few chains are cheaper,
# while more of them fill the machine where there are few observations.
_MIN_CHAINS = 8
# Where chains forget at once, R-hat is known best from few long ones.
_MIN_GUIDED_CHAINS = 4
_MAX_CHAINS = 32
_CHAINS_ALTOGETHER = 256
# Steps from one draw to the next.
_THIN, _GUIDED_THIN, _FOLLOWING_THIN = 10, 4, 2
# Up to this number of parameters jumps were measured to be several times as fast as
# Hamiltonian dynamics, which need a gradient and cannot cross between modes.
_MAX_JUMP_DIM = 20


class Plan(NamedTuple):
    """A run with nothing left open.

    Attributes:
        settings: The settings, with kernel and number of chains decided.
        kernel: What proposes.
        num_chains: Chains for each observation, `C`.
        num_samples: Draws asked for, of each observation.
        num_draws: Draws to keep in each chain, `S`.
        thin: Steps from one draw to the next.
        guided_thin: The same where a density of the target's proposes; None if none
            may.
        given: The settings as the user gave them.
    """

    settings: Settings
    kernel: Kernel
    num_chains: int
    num_samples: int
    num_draws: int
    thin: int
    guided_thin: int | None = None
    given: Settings = Settings()


def make_plan(
    settings: Settings,
    num_samples: int,
    num_observations: int,
    ratio_dim: int | None,
    is_guided: bool = False,
) -> Plan:
    """Decide what the settings leave open.

    Args:
        settings: What the user wants.
        num_samples: Draws asked for, of each observation.
        num_observations: Number of observations, `B`.
        ratio_dim: Number of parameters of a ratio estimator; None for any other target,
            which may have no gradient.
        is_guided: Whether the target has a density that proposes.

    Returns:
        The plan.

    Example:
        >>> plan = make_plan(Settings(), num_samples=1_000, num_observations=1,
        ...                  ratio_dim=2)
        >>> plan.settings.kernel, plan.num_chains, plan.num_draws
        ('jump_walk', 32, 100)
    """
    least = _MIN_GUIDED_CHAINS if is_guided else _MIN_CHAINS
    num_chains = settings.num_chains or max(
        least, min(_MAX_CHAINS, _CHAINS_ALTOGETHER // num_observations)
    )
    name = settings.kernel
    may_follow = is_guided and name == "auto"
    if name == "auto":
        name = "jump_walk" if (ratio_dim or 0) <= _MAX_JUMP_DIM else "hmc"
    given, user_thin = settings, settings.thin
    thin = user_thin or (_GUIDED_THIN if is_guided else _THIN)
    settings = replace(settings, num_chains=num_chains, kernel=name, thin=thin)
    num_draws = -(-num_samples // num_chains)
    if settings.has_limits:
        # However many effective draws are asked for, `max_steps` ends it.
        reachable = 2 * (settings.min_ess or 0) / num_chains
        reachable = min(reachable, settings.max_steps / thin)
        # Even, so that thinning by two loses none.
        num_draws = 2 * math.ceil(max(num_draws, _MIN_DRAWS, reachable) / 2)
    return Plan(
        settings,
        KERNELS[name] if isinstance(name, str) else name,
        num_chains,
        num_samples,
        num_draws,
        thin,
        (user_thin or _FOLLOWING_THIN) if may_follow else None,
        given,
    )


def check_memory(plan: Plan, num_parameters: int, num_observations: int) -> None:
    """Raise if the numbers that a run must hold at a time are more than memory has.

    Args:
        plan: The plan of the run.
        num_parameters: Number of parameters, `D`.
        num_observations: Number of observations, `B`.

    Raises:
        ValueError: If they do not fit.
    """
    rows = {
        "sample_shape": plan.num_samples * num_observations,
        "num_chains": plan.num_chains * plan.num_draws,
        "num_candidates": plan.settings.num_candidates,
    }
    memory = _find_memory()
    for name, count in rows.items():
        needed = 4.0 * count * num_parameters
        if needed > memory:
            raise ValueError(
                f"`{name}` must be small enough for memory, got one that needs "
                f"{needed / 2**30:,.0f} GiB of {memory / 2**30:,.0f}: {count:,} rows "
                f"of {num_parameters} parameters. Draw fewer, or a part at a time."
            )


def _find_memory() -> float:
    """Memory of this machine, bytes; infinity where it cannot be known."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
