"""The part of `MHPosterior` that writes a report about its last run."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor


class ReportedPosterior:
    """What a posterior can say about its last run in one HTML page."""

    def report(
        self,
        path: str | Path,
        *,
        simulator: Callable[..., Any] | None = None,
        truth: Tensor | None = None,
        parameter_names: Sequence[str] | None = None,
        training: Mapping[str, Sequence[float]] | None = None,
        title: str = "Posterior",
        num_simulations: int = 100_000,
        seed: int = 0,
    ) -> Path:
        """Write one self-contained HTML page that says whether to trust the last run.

        Without a simulator it shows the chains; checks of the network and of the data
        are said to be open. With one it also runs the ratio ROC test, normalisation,
        balance, coverage over 100 simulated observations, and posterior predictions.

        Args:
            path: The file to write; its folder is made if needed.
            simulator: Any simulator that sbi accepts.
            truth: True parameters, shape `(D,)`, or `(B, D)` after `sample_batched`.
            parameter_names: One name a parameter; `theta_1` to `theta_D` by default.
            training: A trainer's `summary`, of which the losses are shown.
            title: Heading of the page.
            num_simulations: Simulations for the ROC test. All other checks together
                take some 30,000 at most.
            seed: Makes the checks repeatable.

        Returns:
            The path.

        Raises:
            CallOrderError: If nothing was sampled yet.
            IsADirectoryError: If the path is a folder.
            TypeError: If a simulator is given, but the posterior has no ratio
                estimator.
            ValueError: If shapes do not fit, or the simulator fails.

        Warns:
            FarObservationWarning: If an observation is far from all simulations.
        """
        # By its name, as reports stand above posteriors and import them.
        room = import_module("sbi_aalr.report.posterior_report")
        room.report_posterior(
            self,
            path,
            simulator=simulator,
            truth=truth,
            parameter_names=parameter_names,
            training=training,
            title=title,
            num_simulations=num_simulations,
            seed=seed,
        )
        return Path(path)
