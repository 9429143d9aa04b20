"""One run of a posterior: from what a user asks for to draws and their record."""

import math
from pathlib import Path
from typing import Any

import torch
from sbi.inference.potentials.base_potential import BasePotential
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.sbi_types import Shape, TorchTransform
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_non_negative_int, check_positive_int
from sbi_aalr.persistence.finished_chunks import Checkpoint, read_run
from sbi_aalr.persistence.run_store import check_store, identify, locate_parts
from sbi_aalr.posterior.run import LastRun
from sbi_aalr.sampling.chunks import sample_observations
from sbi_aalr.sampling.parameters import MHPosteriorParameters

# With fewer draws a chain, R-hat and ESS are too noisy to stop on.
_MIN_DRAWS = 100
# R-hat needs every chain to have some hundred effective draws: few chains are cheaper,
# while more of them fill the machine where there are few observations.
_MIN_CHAINS = 8
_MAX_CHAINS = 32
_CHAINS_ALTOGETHER = 256
# On correlated Gaussians jumps did well up to this number of parameters, and from two
# more on far worse than Hamiltonian dynamics, which need a gradient.
_MAX_JUMP_DIM = 12


def sample_run(
    potential_fn: BasePotential,
    proposal: Distribution,
    theta_transform: TorchTransform,
    x: Tensor,
    parameters: MHPosteriorParameters,
    sample_shape: Shape,
    *,
    batched: bool,
    seed: int | None,
    show_progress_bars: bool,
    out: str | Path | None = None,
) -> tuple[LastRun, Tensor]:
    """Run the chains of all observations.

    Args:
        potential_fn: The log-posterior, up to a constant.
        proposal: Where candidates for the starts come from.
        theta_transform: To unconstrained space, for kernels that need it.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        parameters: Settings of this run.
        sample_shape: Shape of the draws for each observation.
        batched: Whether the observations are a batch of the user's.
        seed: Makes the run repeatable; by default torch's global generator does.
        show_progress_bars: Whether to show progress.
        out: Store that will be written; chunks that are done are kept beside it.

    Returns:
        The record of the run, and `N` draws for each observation, spread over all of
        its chains, shape `(N, B, D)`.
    """
    num_samples = count_samples(sample_shape)
    if seed is not None:
        seed = check_non_negative_int("seed", seed)
    num_chains = parameters.num_chains or _choose_num_chains(len(x))
    parameters = parameters.with_param(num_chains=num_chains)
    if parameters.kernel == "auto":
        parameters = parameters.with_param(kernel=_choose_kernel(potential_fn))
    draws = -(-num_samples // num_chains)
    num_draws = _lengthen(draws, parameters) if parameters.has_limits else draws
    checkpoint = None
    if out is not None:
        parts = locate_parts(check_store(out))
        if seed is None:
            seed = read_run(parts).get("seed")
    if seed is None:
        seed = int(torch.randint(2**31, ()))
    if out is not None:
        settings = {"num_draws": num_draws, "seed": seed}
        checkpoint = Checkpoint(
            parts, {**settings, **identify(potential_fn, x, parameters)}
        )
    with torch.no_grad():
        warmup, chains, figures = sample_observations(
            potential_fn,
            proposal,
            theta_transform,
            x,
            parameters,
            num_draws=num_draws,
            seed=seed,
            show_progress_bars=show_progress_bars,
            checkpoint=checkpoint,
        )
    observed = x[:, 0] if batched else x[0]
    run = LastRun(chains, warmup, figures, observed, batched, parameters, seed)
    last = chains.num_draws - 1
    index = torch.linspace(last if draws == 1 else 0, last, draws).round().long()
    theta = chains.theta[:, index].transpose(0, 1).flatten(0, 1)[:num_samples]
    return run, theta


def count_samples(sample_shape: Any) -> int:
    """Return how many draws a shape asks for, or raise."""
    if not isinstance(sample_shape, tuple | list | torch.Size):
        raise TypeError(
            "`sample_shape` must be a tuple of ints, got "
            f"{sample_shape!r}. Write `({sample_shape},)` for that many draws."
        )
    for size in sample_shape:
        check_positive_int("sample_shape", size)
    return torch.Size(sample_shape).numel()


def _choose_kernel(potential_fn: BasePotential) -> str:
    """The kernel that was measured to do best, by the number of parameters."""
    if not isinstance(potential_fn, RatioBasedPotential):
        return "jump_walk"
    dim = potential_fn.ratio_estimator.input_shape.numel()
    return "jump_walk" if dim <= _MAX_JUMP_DIM else "hmc"


def _lengthen(num_draws: int, parameters: MHPosteriorParameters) -> int:
    """Draws that suffice for the limits; even, so that thinning by two loses none."""
    reachable = 2 * (parameters.min_ess or 0) / (parameters.num_chains or 1)
    return 2 * math.ceil(max(num_draws, _MIN_DRAWS, reachable) / 2)


def _choose_num_chains(num_observations: int) -> int:
    return max(_MIN_CHAINS, min(_MAX_CHAINS, _CHAINS_ALTOGETHER // num_observations))
