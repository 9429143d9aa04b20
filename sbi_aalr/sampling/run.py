"""A finished run: what sampling leaves behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from torch import Tensor

from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.sampling.target import Target


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        chains: The draws, `(C, S, B, D)`.
        warmup: Warm-up draws, thinned.
        convergence: How far the chains of each observation have converged.
        observed: The data: `(T, *event_shape)` trials of one observation, or
            `(B, *event_shape)` if `batched`.
        batched: Whether the run was over a batch of observations.
        settings: What made it, by name: how it was sampled, the seed, and whatever
            else is to be known of it.
        created_at: When it was finished.
        target: What was sampled.
        parameter_names: One name a parameter, where they have any.
        ancestor_share: Draws that the starts of each observation descend from, for each
            start, between 0 and 1, shape `(B,)`; None of a run that was read.
    """

    chains: Chains
    warmup: Chains
    convergence: Convergence
    observed: Tensor
    batched: bool
    settings: Mapping[str, Any]
    created_at: datetime
    target: Target
    parameter_names: Sequence[str] | None = None
    ancestor_share: Tensor | None = None
