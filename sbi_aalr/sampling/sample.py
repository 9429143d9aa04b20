"""From a target and observations to a finished run."""

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime

import torch
from torch import Tensor

from sbi_aalr.errors import LostModesWarning
from sbi_aalr.sampling.chunk_starts import LEAST_ANCESTOR_SHARE
from sbi_aalr.sampling.chunks import FinishedChunks, sample_observations
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.sampling.precision import exact_products
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.target import Target


def sample(
    target: Target,
    x: Tensor,
    plan: Plan,
    *,
    batched: bool,
    seed: int,
    show_progress_bars: bool,
    finished: FinishedChunks | None = None,
    executor: Executor | None = None,
    parameter_names: Sequence[str] | None = None,
) -> Run:
    """Run the chains of all observations.

    Args:
        target: What to sample.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
        plan: Kernel, lengths and limits.
        batched: Whether the observations are a batch of the user's.
        seed: Makes the run repeatable.
        show_progress_bars: Whether to show progress.
        finished: Where chunks that are done are kept and found again.
        executor: Whose workers sample; None for this process.
        parameter_names: One name a parameter.

    Returns:
        The run.
    """
    name = plan.settings.kernel
    with torch.no_grad(), exact_products(x.device):
        warmup, chains, convergence, ancestor_share = sample_observations(
            target,
            x,
            plan,
            seed=seed,
            show_progress_bars=show_progress_bars,
            finished=finished,
            executor=executor,
        )
    return Run(
        chains=chains,
        warmup=warmup,
        convergence=convergence,
        observed=x[:, 0] if batched else x[0],
        batched=batched,
        settings={
            **plan.settings.to_dict(),
            "kernel": name if isinstance(name, str) else "custom",
            # To make the same run again: who names what is chosen gets another one.
            "is_auto_kernel": plan.given.kernel == "auto",
            "is_auto_thin": plan.given.thin is None,
            "num_samples": plan.num_samples,
            "seed": seed,
        },
        created_at=datetime.now(UTC),
        target=target,
        parameter_names=parameter_names,
        ancestor_share=ancestor_share,
    )


def warn_if_collapsed(run: Run, stacklevel: int) -> None:
    """Warn if the starts of any observation descend from few draws.

    Args:
        run: The run.
        stacklevel: As the caller would give it to `warnings.warn`.

    Warns:
        LostModesWarning: If fewer than four starts in a hundred have an ancestor of
            their own. Its `value` is the least such share.
    """
    if run.ancestor_share is None:
        return
    collapsed = run.ancestor_share < LEAST_ANCESTOR_SHARE
    if not bool(collapsed.any()):
        return
    worst, value = int(run.ancestor_share.argmin()), float(run.ancestor_share.min())
    whose = "The starts of the chains"
    if run.batched:
        whose += (
            f" of {int(collapsed.sum())} of {len(collapsed)} observations (the worst "
            f"is observation {worst})"
        )
    message = (
        f"{whose} descend from few draws, {100 * value:.1f} for every 100 starts, "
        f"below {100 * LEAST_ANCESTOR_SHARE:.0f}: a mode of the posterior may be lost, "
        "and R-hat cannot see it. Raise `num_candidates`, and compare runs with other "
        "seeds."
    )
    warnings.warn(LostModesWarning(message, value), stacklevel=stacklevel + 1)


def pick_draws(run: Run, num_samples: int) -> Tensor:
    """Take draws of each observation, evenly spaced along all of its chains.

    Args:
        run: The run.
        num_samples: Number of draws for each observation, `N`.

    Returns:
        Draws, shape `(N, B, D)`, prior units.
    """
    wanted = -(-num_samples // run.chains.num_chains)
    last = run.chains.num_draws - 1
    index = torch.linspace(last if wanted == 1 else 0, last, wanted).round().long()
    return run.chains.theta[:, index].transpose(0, 1).flatten(0, 1)[:num_samples]
