"""Sample other observations with the network of a run, to see if it is calibrated."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sbi_aalr.diagnostics.run_tree import warn_about_run
from sbi_aalr.sampling.plan import make_plan
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.sample import pick_draws, sample
from sbi_aalr.sampling.settings import Settings


class Resampled:
    """The posterior of a run, for other observations, as `expected_coverage` asks it.

    Args:
        run: The run, whose target is sampled again.
        settings: How.
        **changes: Fields of the settings to change.
    """

    def __init__(self, run: Run, settings: Settings, **changes: Any) -> None:
        self._target = run.target
        self._device = run.chains.theta.device
        self._names = run.parameter_names
        self._settings = replace(settings, **changes)

    def sample_batched(
        self,
        sample_shape: Any,
        x: Tensor,
        show_progress_bars: bool = False,
        **changes: Any,
    ) -> Tensor:
        """Draw `(*sample_shape, B, D)` given `x`, shape `(B, *event_shape)`.

        Warns:
            ConvergenceWarning: If the chains of any observation did not converge.
        """
        rows = x.to(self._device).unsqueeze(1)
        settings = replace(self._settings, **changes)
        shape = torch.Size(sample_shape)
        plan = make_plan(
            settings,
            shape.numel(),
            len(x),
            self._target.ratio_dim,
            self._target.guide is not None,
        )
        run = sample(
            self._target,
            rows,
            plan,
            batched=True,
            seed=int(torch.randint(2**31, ())),
            show_progress_bars=show_progress_bars,
            parameter_names=self._names,
        )
        if settings.has_limits:
            warn_about_run(run, settings.max_rhat, settings.min_ess, stacklevel=2)
        draws = pick_draws(run, plan.num_samples)
        return draws.reshape(*shape, *draws.shape[1:])

    @torch.no_grad()
    def potential(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate the log-density `(N,)`, up to a constant, given one observation."""
        log_prob_fn = self._target.log_prob_fn_of_one(x.to(self._device))
        return log_prob_fn(theta.to(self._device))
