"""`MHPosterior`: batched likelihood-free Metropolis-Hastings as an sbi posterior."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import TorchTransform
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_device, check_prior
from sbi_aalr.diagnostics.getdist_samples import find_bounds, to_getdist
from sbi_aalr.diagnostics.run_tree import run_to_dataset, run_to_datatree
from sbi_aalr.diagnostics.table import summary
from sbi_aalr.errors import CallOrderError
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.persistence.posterior_files import read
from sbi_aalr.posterior.describe import describe
from sbi_aalr.posterior.inputs import check_estimator, check_parameters
from sbi_aalr.posterior.parameters import MHPosteriorParameters
from sbi_aalr.posterior.saving import save
from sbi_aalr.posterior.sbi_posterior import SbiPosterior
from sbi_aalr.posterior.sbi_settings import change_settings
from sbi_aalr.posterior.transform import make_transform
from sbi_aalr.report.checks import NUM_SIMULATIONS, SEED
from sbi_aalr.report.evidence import CI_PROB
from sbi_aalr.report.phases import show_phases
from sbi_aalr.report.run_report import report_run
from sbi_aalr.sampling.run import Run
from sbi_aalr.seeding import generators_kept

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class MHPosterior(SbiPosterior):
    r"""Posterior p(theta|x) sampled by likelihood-free Metropolis-Hastings.

    The target is log r(x|theta) + log p(theta), with the log-ratio from a ratio
    estimator. Chains of one observation or of thousands run side by side, x is embedded
    once for each, and draws go on until R-hat and the effective sample size are good
    enough, or `max_steps` is spent and a `ConvergenceWarning` says so. What shows the
    last run raises a `CallOrderError` where nothing was sampled yet.

    Args:
        potential_fn: sbi's potential: from `ratio_estimator_based_potential`, or any
            other, or a callable `(theta, x_o) -> (N,)` of theta `(N, D)`.
        proposal: Where candidates for the starts come from; the prior by default.
        theta_transform: To unconstrained space, for `map`; built from the prior by
            default.
        parameters: Settings; see `MHPosteriorParameters`.
        device: Where to sample; the potential's device by default.
        parameter_names: One name a parameter, for tables, plots, files and warnings; by
            default those in the prior's field `parameter_names`, if it has one.
        **settings: Single settings by name, over those in `parameters`; those of sbi's
            `MCMCPosterior` too, with a warning of what has no meaning here.

    Raises:
        TypeError: If an argument has the wrong type, or there is neither a proposal nor
            a prior in the potential.
        ValueError: If draws of the proposal are no rows of parameters.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 2.
    """

    @generators_kept()
    def __init__(
        self,
        potential_fn: Any,
        proposal: Distribution | None = None,
        theta_transform: TorchTransform | None = None,
        parameters: MHPosteriorParameters | None = None,
        device: Any = None,
        parameter_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        parameters = change_settings(check_parameters(parameters), settings, 3)
        parts = potential_fn, proposal, theta_transform, parameters, device
        super().__init__(*parts, parameter_names)
        self._purpose = "It samples by likelihood-free Metropolis-Hastings."

    def __str__(self) -> str:
        """Say of what it is the posterior, and how far the last run came."""
        return f"{super().__str__()}\n{describe(self)}"

    @classmethod
    @generators_kept()
    def from_estimator(
        cls, estimator: RatioEstimator, prior: Distribution, **settings: Any
    ) -> Self:
        """Sample with a ratio estimator that any of sbi's trainers has fitted.

        Args:
            estimator: The ratio estimator, of NRE_A, NRE_B, NRE_C, BNRE or AALR.
            prior: The prior it was trained with.
            **settings: `parameter_names`, and those of `MHPosteriorParameters`.
        """
        width = check_estimator(estimator).input_shape.numel()
        check_prior("prior", prior, width)
        device = str(next(estimator.parameters()).device)
        potential_fn = RatioBasedPotential(estimator, prior, device=device)
        return cls(potential_fn, prior, make_transform(prior, device), **settings)

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
                take some 80,000 at most.
            seed: Makes the checks repeatable.
            ci_prob: Probability of the intervals on the page.
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
                on_phase=on_phase,
            )
        return Path(path)

    def save(self, folder: str | Path) -> Path:
        """Write the posterior to a folder: safetensors and JSON, no pickle.

        Args:
            folder: Where to; made if needed, and returned.

        Raises:
            TypeError: If the posterior has no ratio estimator, whose weights to write.

        Warns:
            UnsavedPriorWarning: If the prior is of a kind that cannot be described in
                JSON, and must be given again when loading.
        """
        settings = self.parameters.to_dict()
        return save(folder, self.potential_fn, settings, self._x, self._names)

    @classmethod
    @generators_kept()
    def load(
        cls,
        folder: str | Path,
        *,
        prior: Distribution | None = None,
        classifier: object = None,
        device: str = "cpu",
        parameter_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> Self:
        """Read a posterior that `save` wrote; nothing in the files is executed.

        Args:
            folder: Where from.
            prior: The prior, where JSON could not hold it. Where it could, leave it
                out, or give the same.
            classifier: The builder of the network, where it was your own.
            device: Where to sample.
            parameter_names: Others than those saved.
            **settings: Settings by name, over those saved.

        Returns:
            The posterior, without chains.

        Raises:
            FileNotFoundError: If the folder holds no saved posterior.
            ValueError: If a file is damaged, the files are not of one save, something
                must be given again, the prior is another than the one saved, or the
                device does not work.
        """
        check_device("device", device)
        saved = read(folder, prior=prior, classifier=classifier, settings=settings)
        names = saved.parameter_names if parameter_names is None else parameter_names
        chosen: dict[str, Any] = {**saved.settings, "parameter_names": names}
        posterior = cls.from_estimator(saved.estimator, saved.prior, **chosen)
        if saved.x is not None:
            posterior.set_default_x(saved.x)
        # Moving makes the prior anew, and rounds the factor of a covariance anew.
        return posterior if device == "cpu" else posterior.to(device)

    def _require_run(self) -> Run:
        if self._run is None:
            raise CallOrderError("There are no chains yet. Call `sample` first.")
        return self._run
