"""What sbi asks of a posterior: draws, densities, a default x, a device."""

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.sbi_types import Shape, TorchTransform
from sbi.utils.torchutils import process_device
from sbi.utils.user_input_checks_utils import move_distribution_to_device
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_device, check_parameter_names, find_parameter_names
from sbi_aalr.diagnostics.run_tree import warn_about_run
from sbi_aalr.errors import CallOrderError
from sbi_aalr.posterior.inputs import (
    check_is_ratio,
    check_potential,
    check_theta,
    check_transform,
    check_x,
    count_samples,
)
from sbi_aalr.posterior.maximum import find_maximum
from sbi_aalr.posterior.modes import gradients_on, gradients_set
from sbi_aalr.posterior.parameters import MHPosteriorParameters
from sbi_aalr.posterior.proposal import check_proposal
from sbi_aalr.posterior.sample_run import sample_run
from sbi_aalr.posterior.sbi_settings import change_settings
from sbi_aalr.posterior.target import make_target
from sbi_aalr.posterior.trials import warn_about_trials
from sbi_aalr.sampling.normaliser import Normaliser, PriorDraws
from sbi_aalr.sampling.plan import check_memory, make_plan
from sbi_aalr.sampling.prior_transform import find_transform
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.sample import pick_draws, warn_if_collapsed
from sbi_aalr.sampling.target import Target
from sbi_aalr.sampling.truncated_prior import warn_if_other


class SbiPosterior(NeuralPosterior):
    """An sbi posterior whose density is evaluated by the engine that samples it.

    Its arguments are those of `MHPosterior`.
    """

    def __init__(
        self,
        potential_fn: Any,
        proposal: Distribution | None,
        theta_transform: TorchTransform | None,
        parameters: MHPosteriorParameters,
        device: str | torch.device | None,
        parameter_names: Sequence[str] | None = None,
    ) -> None:
        device = None if device is None else check_device("device", device)
        super().__init__(
            check_potential(potential_fn), check_transform(theta_transform), device
        )
        self.proposal, self._dim = check_proposal(proposal, self.potential_fn)
        self._x: Tensor | None
        if self._x is not None:
            self._x = self._check_x(self._x)
        if theta_transform is None:
            self.theta_transform = find_transform(self.proposal, self._device)
        self.parameters = parameters
        self._names = find_parameter_names(parameter_names, self.proposal, self._dim)
        self._prior_draws: PriorDraws | None = None
        self._run: Run | None = None

    @property
    def run(self) -> Run | None:
        """The last finished run, or None."""
        return self._run

    @property
    def parameter_names(self) -> list[str]:
        """One name a parameter, `theta_1` to `theta_D` where none were given."""
        return check_parameter_names(self._names, self._dim)

    @property
    def target(self) -> Target:
        """What is sampled, in the form that the sampling engine takes."""
        return make_target(self.potential_fn, self.proposal, self.theta_transform)

    def sample(
        self,
        sample_shape: Shape = (),
        x: Tensor | None = None,
        show_progress_bars: bool = True,
        seed: int | None = None,
        out: str | Path | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw from the posterior given one observation.

        Args:
            sample_shape: Shape of the draws.
            x: Observation, shape `event_shape` or `(T, *event_shape)` for `T` i.i.d.
                trials, whose log-ratios are summed; by default the default x.
            show_progress_bars: Whether to show steps and convergence.
            seed: Makes the run repeatable; by default torch's global generator does.
            out: Store to write, as in `sample_batched`.
            **settings: Settings for this run only; see `MHPosteriorParameters`, or as
                sbi's sampler takes them.

        Returns:
            Draws, shape `(*sample_shape, D)`, prior units.

        Raises:
            ValueError: If no x is set, and for what `sample_batched` raises one.

        Warns:
            ConvergenceWarning: If the chains did not converge in `max_steps`.
            LostModesWarning: If so few points are starts that a mode may be lost.
            TrialsWarning: If x has more than 20 trials: the ratio's errors add up.
        """
        trials = self._x_else_default_x(x).unsqueeze(0)
        warn_about_trials(self.potential_fn, trials.shape[1])
        options = {"seed": seed, "show_progress_bars": show_progress_bars, "out": out}
        draws = self._sample(sample_shape, trials, settings, batched=False, **options)
        return draws[:, 0].reshape(*torch.Size(sample_shape), -1)

    def sample_batched(
        self,
        sample_shape: Shape,
        x: Tensor,
        show_progress_bars: bool = True,
        seed: int | None = None,
        out: str | Path | None = None,
        executor: Executor | None = None,
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
                `to_datatree` returns.
            executor: Whose workers sample, 128 observations at a time, the same draws.
            **settings: Settings for this run only; see `MHPosteriorParameters`.

        Returns:
            Draws, shape `(*sample_shape, B, D)`, prior units.

        Raises:
            FileNotFoundError: If the folder of `out` does not exist.
            ImportError: If `out` asks for Zarr and it is not installed.
            ValueError: If x has another shape than in training, or NaN; if `out` ends
                otherwise, exists, or was begun by another run.

        Warns:
            ConvergenceWarning: As `sample` does, for any observation.
        """
        observations = self._check_x(x).unsqueeze(1)
        options: dict[str, Any] = {"seed": seed, "out": out, "executor": executor}
        options |= {"show_progress_bars": show_progress_bars, "batched": True}
        draws = self._sample(sample_shape, observations, settings, **options)
        return draws.reshape(*torch.Size(sample_shape), *draws.shape[1:])

    def log_prob(
        self, theta: Tensor, x: Tensor | None = None, track_gradients: bool = False
    ) -> Tensor:
        """Evaluate the log-posterior density, log r(x|theta) + log p(theta) - log Z(x).

        Z(x) = E_prior[r(x|theta)], one for the exact ratio, makes it a density. It is
        measured: `normaliser` tells its error, `NormaliserWarning` that it is large.

        Args:
            theta: Parameters, shape `(N, D)` or `(D,)`.
            x: Observation, or i.i.d. trials; by default the default x.
            track_gradients: Whether the result can be differentiated.

        Returns:
            Log-density, shape `(N,)`, nats; minus infinity outside the prior.

        Raises:
            ValueError: If theta or x has another width than in training, or NaN.
        """
        trials = self._x_else_default_x(x)
        with gradients_set("track_gradients", track_gradients):
            found = self.target.log_prob_fn_of_one(trials)(self._check_theta(theta))
            if not isinstance(self.potential_fn, RatioBasedPotential):
                return found
            measured = self._measure_normaliser(trials).warn_if_unknown()
            return found - measured.log_normaliser

    def potential(
        self, theta: Tensor, x: Tensor | None = None, track_gradients: bool = False
    ) -> Tensor:
        """Evaluate what is sampled: `log_prob` without its normaliser."""
        trials = self._x_else_default_x(x)
        with gradients_set("track_gradients", track_gradients):
            return self.target.log_prob_fn_of_one(trials)(self._check_theta(theta))

    def normaliser(self, x: Tensor | None = None) -> Normaliser:
        """Measure by many draws how far the ratio is from being normalised.

        Args:
            x: As in `log_prob`.

        Returns:
            Its log-normaliser, shape `(1,)`, nats, with its Monte Carlo error.

        Raises:
            TypeError: If the potential has no ratio estimator.
        """
        return self._measure_normaliser(self._x_else_default_x(x))

    def _measure_normaliser(self, trials: Tensor) -> Normaliser:
        if self._prior_draws is None:
            potential = check_is_ratio(self.potential_fn)
            self._prior_draws = PriorDraws(potential.ratio_estimator, potential.prior)
        return self._prior_draws.measure(trials, are_trials=True)

    def set_default_x(self, x: Tensor) -> "SbiPosterior":
        """Set the observation that `sample` and `log_prob` use when given none."""
        self._x, self._map = self._check_x(x), None
        return self

    def to(self, device: str | torch.device) -> "SbiPosterior":
        """Move estimator, prior and default x to a device."""
        self._device = process_device(check_device("device", device))
        self._prior_draws = None
        self.potential_fn.to(self._device)
        self.proposal = move_distribution_to_device(self.proposal, self._device)
        self.theta_transform = find_transform(self.proposal, self._device)
        if self._x is not None:
            self._x = self._x.to(self._device)
        return self

    def _sample(
        self, sample_shape: Shape, x: Tensor, settings: dict[str, Any], **options: Any
    ) -> Tensor:
        """Run the chains and return `(N, B, D)` draws, spread over all of them."""
        # sbi's importance sampler leaves an s out.
        shown = settings.pop("show_progress_bar", options["show_progress_bars"])
        options |= {"show_progress_bars": shown, "parameter_names": self._names}
        num_samples = count_samples(sample_shape)
        chosen, target = change_settings(self.parameters, settings, 3), self.target
        is_guided = target.guide is not None
        plan = make_plan(chosen, num_samples, len(x), target.ratio_dim, is_guided)
        check_memory(plan, self._dim, len(x))
        with gradients_on("sample"), torch.no_grad():
            self._run = run = sample_run(target, x, plan, **options)
        warn_if_collapsed(run, stacklevel=3)
        if chosen.has_limits:
            warn_about_run(run, chosen.max_rhat, chosen.min_ess, stacklevel=3)
        return pick_draws(run, num_samples)

    def _x_else_default_x(self, x: Any) -> Tensor:
        if x is not None:
            return self._check_x(x, depth=3)
        if self._x is None:
            raise CallOrderError(
                "`x` must be given: pass `x=`, or call `set_default_x(x)` first."
            )
        return self._x

    def _check_theta(self, theta: Any, *name: str) -> Tensor:
        return check_theta(theta, self.potential_fn, self._dim, *name).to(self._device)

    def _check_x(self, x: Any, depth: int = 2) -> Tensor:
        rows = check_x(x, self.potential_fn, depth + 1).to(self._device)
        prior = getattr(self.potential_fn, "prior", None)
        warn_if_other(prior, rows, stacklevel=depth + 1)
        return rows

    def _calculate_map(
        self,
        *,
        init_method: str | Tensor = "posterior",
        show_progress_bars: bool = False,
        **settings: Any,
    ) -> Tensor:
        """Climb from draws, with or without progress bars; `map` says how."""
        draw = partial(self.sample, show_progress_bars=show_progress_bars)
        if not isinstance(init_method, str):
            init_method = self._check_theta(init_method, "init_method")
        return find_maximum(
            self.target.log_prob_fn_of_one(self._x_else_default_x(None)),
            {"posterior": draw, "proposal": self.proposal.sample},
            self.theta_transform,
            init_method=init_method,
            show_progress_bars=show_progress_bars,
            **settings,
        )
