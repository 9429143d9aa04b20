"""What a posterior tells of its last run: chains, tables, trees and a report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sbi_aalr.diagnostics.getdist_samples import find_bounds, to_getdist
from sbi_aalr.diagnostics.run_tree import run_to_dataset, run_to_datatree
from sbi_aalr.diagnostics.table import summary
from sbi_aalr.errors import CallOrderError
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.posterior.sbi_posterior import SbiPosterior
from sbi_aalr.report.checks import NUM_SIMULATIONS, SEED
from sbi_aalr.report.evidence import CI_PROB
from sbi_aalr.report.phases import show_phases
from sbi_aalr.report.run_report import report_run
from sbi_aalr.sampling.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class LastRun(SbiPosterior):
    """A posterior that remembers its last run, and shows it.

    Whatever shows it raises a `CallOrderError` where nothing was sampled yet.
    """

    @property
    def chains(self) -> Chains | None:
        """Draws of the last run, `(C, S, B, D)` with log-probabilities, or None."""
        return None if self._run is None else self._run.chains

    @property
    def warmup_chains(self) -> Chains | None:
        """Warm-up draws of the last run, thinned, or None."""
        return None if self._run is None else self._run.warmup

    def diagnostics(self, parameter_names: Sequence[str] | None = None) -> "xr.Dataset":
        """Return how far the last run converged.

        There are `r_hat`, `ess_bulk` and `ess_tail` by parameter, `acceptance_rate`,
        `stuck_chains`, `num_steps` and `converged`; each by `observation` after
        `sample_batched`. `parameter_names` may be others than the posterior's own.
        """
        run = self._require_run()
        dataset = run_to_dataset(run, parameter_names)
        return dataset if run.batched else dataset.isel(observation=0, drop=True)

    def to_datatree(
        self, parameter_names: Sequence[str] | None = None, split: bool = False
    ) -> "xr.DataTree":
        """Convert the last run's chains to ArviZ.

        Args:
            parameter_names: Others than the posterior's own.
            split: Whether to have a variable for each parameter, named like it, in the
                place of `theta`; for `var_names`, as ArviZ's functions take them.

        Returns:
            Groups `posterior`, `sample_stats`, their warm-up counterparts,
            `observed_data` and `diagnostics`; the variable is `theta` with dimensions
            `(chain, draw, parameter)`, and `observation` before the last after
            `sample_batched`.
        """
        tree = run_to_datatree(self._require_run(), parameter_names, split)
        return tree.copy(deep=True)

    def to_getdist(
        self, observation: int | None = None, label: str | None = None
    ) -> Any:
        """Convert the last run's chains to GetDist's `MCSamples`.

        Args:
            observation: Which to take, where there are several.
            label: What its legends call the samples.
        """
        tree, bounds = self.to_datatree(), find_bounds(self.proposal)
        return to_getdist(tree, observation=observation, label=label, bounds=bounds)

    def summary(
        self,
        parameter_names: Sequence[str] | None = None,
        truth: Tensor | None = None,
        ci_prob: float = 0.94,
    ) -> "pd.DataFrame":
        """Return ArviZ's table of the last run, one row a parameter.

        Args:
            parameter_names: Others than the posterior's own.
            truth: True parameters to put beside, shape `(D,)`.
            ci_prob: Probability of the equal-tailed interval; ArviZ's by default.
        """
        tree = self.to_datatree(parameter_names)
        return summary(tree, truth=truth, ci_prob=ci_prob)

    def report(
        self,
        path: str | Path,
        *,
        simulator: Callable[..., Any] | None = None,
        truth: Tensor | None = None,
        parameter_names: Sequence[str] | None = None,
        training: Mapping[str, Sequence[float]] | None = None,
        title: str = "Posterior",
        num_simulations: int = NUM_SIMULATIONS,
        seed: int = SEED,
        ci_prob: float = CI_PROB,
        exclude_invalid_x: bool = False,
        show_progress_bars: bool = True,
    ) -> Path:
        """Write one self-contained HTML page that says whether to trust the last run.

        Without a simulator it shows the chains, and says which checks are open. With
        one it also runs them: the ratio ROC test, balance, coverage over 100 simulated
        observations, and posterior predictions.

        Args:
            path: The file to write; its folder is made if needed.
            simulator: Any simulator that sbi accepts.
            truth: True parameters, shape `(D,)`, or `(B, D)` after `sample_batched`.
            parameter_names: Others than the posterior's own.
            training: A trainer's `summary`, of which the losses are shown.
            title: Heading of the page.
            num_simulations: Simulations for the ROC test. All other checks together
                take some 80,000 at most, and more only for hundreds of observations
                or trials.
            seed: Makes the checks repeatable.
            ci_prob: Probability of the intervals on the page.
            exclude_invalid_x: Simulate again, at the same parameters, where the
                simulator gives NaN or infinity: the checks are then those of
                simulations that succeed, which is what a network has seen that such
                were left out of.
            show_progress_bars: Whether to show what is being done.

        Returns:
            The path.

        Raises:
            IsADirectoryError: If the path is a folder.
            TypeError: If a simulator is given, but the posterior has no ratio
                estimator.
            ValueError: If shapes do not fit, or the simulator fails.

        Warns:
            FarObservationWarning: If an observation is far from all simulations.
        """
        run = self._require_run()
        with show_phases(show_progress_bars) as on_phase:
            report_run(
                run,
                path,
                settings=self.parameters,
                simulator=simulator,
                truth=truth,
                parameter_names=parameter_names,
                training=training,
                title=title,
                num_simulations=num_simulations,
                seed=seed,
                ci_prob=ci_prob,
                exclude_invalid_x=exclude_invalid_x,
                on_phase=on_phase,
            )
        return Path(path)

    def _require_run(self) -> Run:
        if self._run is None:
            raise CallOrderError("There are no chains yet. Call `sample` first.")
        return self._run
