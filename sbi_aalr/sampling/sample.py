"""From a target and observations to a finished run."""

from datetime import UTC, datetime

import torch
from torch import Tensor

from sbi_aalr.sampling.chunks import FinishedChunks, sample_observations
from sbi_aalr.sampling.plan import Plan
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

    Returns:
        The run.
    """
    with torch.no_grad():
        warmup, chains, convergence = sample_observations(
            target,
            x,
            plan,
            seed=seed,
            show_progress_bars=show_progress_bars,
            finished=finished,
        )
    return Run(
        chains=chains,
        warmup=warmup,
        convergence=convergence,
        observed=x[:, 0] if batched else x[0],
        batched=batched,
        settings={**plan.settings.to_dict(), "seed": seed},
        created_at=datetime.now(UTC),
        target=target,
    )


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
