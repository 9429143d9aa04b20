"""What the last run of a posterior leaves behind, and how to read it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from sbi_aalr.diagnostics import summary, to_datatree
from sbi_aalr.diagnostics.convergence_warning import judge
from sbi_aalr.diagnostics.draws import check_parameter_names, read_draws
from sbi_aalr.errors import CallOrderError
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.posterior.reporting import ReportedPosterior
from sbi_aalr.sampling.parameters import MHPosteriorParameters

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True)
class LastRun:
    """A finished run of `MHPosterior`.

    Attributes:
        chains: The draws, `(C, S, B, D)`.
        warmup_chains: Warm-up draws, thinned.
        figures: Convergence of each observation.
        observed: The data: `(T, *event_shape)` trials of one observation, or
            `(B, *event_shape)` if `batched`.
        batched: Whether the run was over a batch of observations.
        parameters: Settings of the run.
        seed: Seed of the run.
    """

    chains: Chains
    warmup_chains: Chains
    figures: Convergence
    observed: Tensor
    batched: bool
    parameters: MHPosteriorParameters
    seed: int

    def to_dataset(self, parameter_names: Sequence[str] | None = None) -> "xr.Dataset":
        """Label the figures, with the dimensions `(observation, parameter)`."""
        import xarray as xr

        names = check_parameter_names(parameter_names, self.chains.theta.shape[-1])
        dims = ("observation", "parameter")
        return xr.Dataset(
            {
                name: (dims[: values.ndim], values.cpu().numpy())
                for name, values in self.figures._asdict().items()
            },
            {"observation": range(self.chains.num_observations), "parameter": names},
        )

    def warn_if_not_converged(self, stacklevel: int) -> None:
        """Warn about the worst observation and parameter, if limits were not met.

        Args:
            stacklevel: Frames from here to the line that the warning points at.
        """
        limits = self.parameters
        warning = judge(
            self.to_dataset(),
            read_draws(self.chains, batched=self.batched),
            limits.max_rhat,
            limits.min_ess,
        )
        if warning is not None:
            warnings.warn(warning, stacklevel=stacklevel + 1)


class RunReports(ReportedPosterior):
    """What a posterior says about its last run: chains, figures, ArviZ, a table."""

    _last_run: LastRun | None = None

    @property
    def chains(self) -> Chains | None:
        """Draws of the last run, `(C, S, B, D)` with log-probabilities, or None."""
        return None if self._last_run is None else self._last_run.chains

    @property
    def warmup_chains(self) -> Chains | None:
        """Warm-up draws of the last run, thinned, or None."""
        return None if self._last_run is None else self._last_run.warmup_chains

    def diagnostics(self, parameter_names: Sequence[str] | None = None) -> "xr.Dataset":
        """Return R-hat, effective sample sizes, acceptance and steps of the last run.

        Args:
            parameter_names: One name a parameter; `theta_1` to `theta_D` by default.

        Returns:
            `r_hat`, `ess_bulk` and `ess_tail` by parameter, `acceptance_rate`,
            `stuck_chains`, `num_steps` and `converged`; each by `observation` after
            `sample_batched`.

        Raises:
            CallOrderError: If nothing was sampled yet.
        """
        run = self._require_run()
        dataset = run.to_dataset(parameter_names)
        return dataset if run.batched else dataset.isel(observation=0, drop=True)

    def to_datatree(
        self, parameter_names: Sequence[str] | None = None
    ) -> "xr.DataTree":
        """Convert the last run's chains to ArviZ.

        Args:
            parameter_names: One name a parameter; `theta_1` to `theta_D` by default.

        Returns:
            Groups `posterior`, `sample_stats`, their warm-up counterparts and
            `observed_data`; the variable is `theta` with dimensions
            `(chain, draw, parameter)`, and `observation` before the last after
            `sample_batched`.

        Raises:
            CallOrderError: If nothing was sampled yet.
        """
        run = self._require_run()
        return to_datatree(
            run.chains,
            warmup=run.warmup_chains if run.warmup_chains.num_draws else None,
            observed_data=run.observed,
            parameter_names=parameter_names,
            attributes={**run.parameters.to_dict(), "seed": run.seed},
            batched=run.batched,
        )

    def summary(
        self, parameter_names: Sequence[str] | None = None, truth: Tensor | None = None
    ) -> "pd.DataFrame":
        """Return ArviZ's table of the last run, one row a parameter.

        Args:
            parameter_names: One name a parameter; `theta_1` to `theta_D` by default.
            truth: True parameters to put beside, shape `(D,)`.

        Returns:
            Mean, sd, interval, bulk and tail ESS, and R-hat.

        Raises:
            CallOrderError: If nothing was sampled yet.
        """
        return summary(self.to_datatree(parameter_names), truth=truth)

    def _require_run(self) -> LastRun:
        if self._last_run is None:
            raise CallOrderError("There are no chains yet. Call `sample` first.")
        return self._last_run
