"""`MHPosterior`: batched likelihood-free Metropolis-Hastings as an sbi posterior."""

import shutil
from pathlib import Path
from typing import Any, Self

import torch
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.inference.potentials import ratio_estimator_based_potential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Shape, TorchTransform
from sbi.utils import mcmc_transform
from sbi.utils.torchutils import process_device
from sbi.utils.user_input_checks_utils import move_distribution_to_device
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_prior
from sbi_aalr.errors import CallOrderError
from sbi_aalr.persistence.posterior_files import SavedPosterior
from sbi_aalr.persistence.run_store import locate_parts, write_store
from sbi_aalr.posterior.run import LastRun, RunReports
from sbi_aalr.posterior.sample_run import sample_run
from sbi_aalr.sampling.normaliser import NormalisedPosterior
from sbi_aalr.sampling.parameters import MHPosteriorParameters
from sbi_aalr.sampling.target import check_estimator, check_theta, check_x, log_prob_fn


class MHPosterior(SavedPosterior, RunReports, NormalisedPosterior, NeuralPosterior):
    r"""Posterior p(theta|x) sampled by likelihood-free Metropolis-Hastings.

    The target is log r(x|theta) + log p(theta), with the log-ratio from a ratio
    estimator. Chains of one observation or of thousands run side by side, x is embedded
    once for each, and draws go on until R-hat and the effective sample size are good
    enough, or `max_steps` is spent and a `ConvergenceWarning` says so.

    Args:
        potential_fn: sbi's potential: from `ratio_estimator_based_potential`, or any
            other, or a callable `(theta, x_o) -> (N,)` of theta `(N, D)`.
        proposal: Where candidates for the starts come from; the prior by default.
        theta_transform: To unconstrained space, for `map`; built from the prior by
            default.
        parameters: Settings; see `MHPosteriorParameters`.
        device: Where to sample; the potential's device by default.
        **settings: Single settings by name, over those in `parameters`.

    Raises:
        TypeError: If there is neither a proposal nor a prior in the potential.

    References:
        Hermans et al. (2020), arXiv:1903.04057, Algorithm 2.
    """

    def __init__(
        self,
        potential_fn: Any,
        proposal: Distribution | None = None,
        theta_transform: TorchTransform | None = None,
        parameters: MHPosteriorParameters | None = None,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(potential_fn, theta_transform, device)
        self.proposal = proposal or self.potential_fn.prior
        if self.proposal is None:
            raise TypeError(
                "`proposal` must be a distribution to start chains from, got None, and "
                "`potential_fn` has no prior. Pass the prior as `proposal`."
            )
        if theta_transform is None:
            self.theta_transform = mcmc_transform(self.proposal, device=self._device)
        self.parameters = (parameters or MHPosteriorParameters()).with_param(**settings)
        self._last_run: LastRun | None = None
        self._purpose = "It samples by likelihood-free Metropolis-Hastings."

    @classmethod
    def from_estimator(
        cls, estimator: RatioEstimator, prior: Distribution, **settings: Any
    ) -> Self:
        """Sample with a ratio estimator that any of sbi's trainers has fitted.

        Args:
            estimator: The ratio estimator, of NRE_A, NRE_B, NRE_C, BNRE or AALR.
            prior: The prior it was trained with.
            **settings: Settings by name; see `MHPosteriorParameters`.

        Returns:
            The posterior.
        """
        potential_fn, transform = ratio_estimator_based_potential(
            check_estimator(estimator), check_prior("prior", prior), x_o=None
        )
        return cls(potential_fn, prior, transform, **settings)

    def sample(
        self,
        sample_shape: Shape = (),
        x: Tensor | None = None,
        show_progress_bars: bool = True,
        seed: int | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw from the posterior given one observation.

        Args:
            sample_shape: Shape of the draws.
            x: Observation, shape `event_shape` or `(T, *event_shape)` for `T` i.i.d.
                trials, whose log-ratios are summed; by default the default x.
            show_progress_bars: Whether to show steps and convergence.
            seed: Makes the run repeatable; by default torch's global generator does.
            **settings: Settings for this run only; see `MHPosteriorParameters`.

        Returns:
            Draws, shape `(*sample_shape, D)`, prior units.

        Raises:
            ValueError: If no x is set, or it has another shape than in training or NaN.

        Warns:
            ConvergenceWarning: If the chains did not converge in `max_steps`.
        """
        trials = self._x_else_default_x(x).unsqueeze(0)
        draws = self._sample(
            sample_shape,
            trials,
            settings,
            batched=False,
            seed=seed,
            show_progress_bars=show_progress_bars,
        )
        return draws[:, 0].reshape(*torch.Size(sample_shape), -1)

    def sample_batched(
        self,
        sample_shape: Shape,
        x: Tensor,
        show_progress_bars: bool = True,
        seed: int | None = None,
        out: str | Path | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw from the posterior given each of many observations.

        With `out`, every few hundred observations are written to `<out>.parts` as they
        are done. The same call goes on from there after a run was killed, with the
        same draws as if nothing had happened; `out` itself appears when all are done.

        Args:
            sample_shape: Shape of the draws for each observation.
            x: Observations, shape `(B, *event_shape)`.
            show_progress_bars: Whether to show steps and converged observations.
            seed: Makes the run repeatable; by default torch's global generator does.
                A run that goes on keeps the seed it began with.
            out: Store to write, ending in `.nc` for NetCDF or `.zarr` for Zarr: what
                `to_datatree` returns, with the figures in its group `diagnostics`.
            **settings: Settings for this run only; see `MHPosteriorParameters`.

        Returns:
            Draws, shape `(*sample_shape, B, D)`, prior units.

        Raises:
            FileNotFoundError: If the folder of `out` does not exist.
            ImportError: If `out` asks for Zarr and it is not installed.
            ValueError: If x has another shape than in training, or NaN; if `out` ends
                otherwise, exists, or was begun by another run.

        Warns:
            ConvergenceWarning: If the chains of any observation did not converge.
        """
        observations = self._check_x(x).unsqueeze(1)
        draws = self._sample(
            sample_shape,
            observations,
            settings,
            batched=True,
            seed=seed,
            show_progress_bars=show_progress_bars,
            out=out,
        )
        return draws.reshape(*torch.Size(sample_shape), *draws.shape[1:])

    def log_prob(
        self, theta: Tensor, x: Tensor | None = None, track_gradients: bool = False
    ) -> Tensor:
        """Evaluate the log-posterior density, log r(x|theta) + log p(theta) - log Z(x).

        Z(x) = E_prior[r(x|theta)], one for the exact ratio, makes it a density; it is
        measured, and `normaliser` tells its Monte Carlo error.

        Args:
            theta: Parameters, shape `(N, D)` or `(D,)`.
            x: Observation, or i.i.d. trials; by default the default x.
            track_gradients: Whether the result can be differentiated.

        Returns:
            Log-density, shape `(N,)`, nats; minus infinity outside the prior.

        Raises:
            ValueError: If theta or x has another width than in training, NaN or
                infinity.
        """
        log_density = self.potential(theta, x, track_gradients=track_gradients)
        return log_density - self._get_log_normaliser(x)

    def potential(
        self, theta: Tensor, x: Tensor | None = None, track_gradients: bool = False
    ) -> Tensor:
        """Evaluate what is sampled: `log_prob` without its normaliser."""
        position = check_theta(theta, self.potential_fn).to(self._device).unsqueeze(1)
        trials = self._x_else_default_x(x)
        with torch.set_grad_enabled(track_gradients):
            return log_prob_fn(self.potential_fn, trials.unsqueeze(0))(position)[:, 0]

    def set_default_x(self, x: Tensor) -> "MHPosterior":
        """Set the observation that `sample` and `log_prob` use when given none."""
        self._x, self._map = self._check_x(x), None
        return self

    def to(self, device: str | torch.device) -> "MHPosterior":
        """Move estimator, prior and default x to a device."""
        self._device, self._prior_draws = process_device(str(device)), None
        self.potential_fn.to(self._device)
        self.proposal = move_distribution_to_device(self.proposal, self._device)
        self.theta_transform = mcmc_transform(self.proposal, device=self._device)
        if self._x is not None:
            self._x = self._x.to(self._device)
        return self

    def _sample(
        self, sample_shape: Shape, x: Tensor, settings: dict[str, Any], **options: Any
    ) -> Tensor:
        """Run the chains and return `(N, B, D)` draws, spread over all of them."""
        self._last_run, draws = sample_run(
            self.potential_fn,
            self.proposal,
            self.theta_transform,
            x,
            self.parameters.with_param(**settings),
            sample_shape,
            **options,
        )
        if options.get("out") is not None:
            self._write(Path(options["out"]))
        if self._last_run.parameters.has_limits:
            self._last_run.warn_if_not_converged(stacklevel=3)
        return draws

    def _write(self, store: Path) -> None:
        """Write the last run to a store, and delete the parts it was kept in."""
        write_store(store, self.to_datatree(), self.diagnostics())
        shutil.rmtree(locate_parts(store))

    def _x_else_default_x(self, x: Any) -> Tensor:
        if x is not None:
            return self._check_x(x)
        if self._x is None:
            raise CallOrderError(
                "`x` must be given, as no default is set. Pass `x=`, or call "
                "`set_default_x(x)` first."
            )
        return self._x

    def _check_x(self, x: Any) -> Tensor:
        return check_x(x, self.potential_fn).to(self._device)

    def _calculate_map(
        self,
        *args: Any,
        init_method: str | Tensor = "posterior",
        num_init_samples: int = 1_000,
        show_progress_bars: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Start sbi's gradient ascent from draws, with or without progress bars."""
        if isinstance(init_method, str) and init_method == "posterior":
            init_method = self.sample(
                (num_init_samples,), show_progress_bars=show_progress_bars
            )
        return super()._calculate_map(
            *args,
            init_method=init_method,
            num_init_samples=num_init_samples,
            show_progress_bars=show_progress_bars,
            **kwargs,
        )
