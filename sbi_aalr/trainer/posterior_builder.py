"""`build_posterior` that makes an `MHPosterior` where sbi would make its own."""

from typing import Any, Literal

import torch
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.inference.posteriors.posterior_parameters import PosteriorParameters
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch.distributions import Distribution

from sbi_aalr.checks import check_choice, check_prior
from sbi_aalr.errors import CallOrderError
from sbi_aalr.posterior.mh_posterior import MHPosterior
from sbi_aalr.sampling.parameters import MHPosteriorParameters
from sbi_aalr.trainer.sbi_trainer import QuietTrainer

SAMPLERS = ("mh", "mcmc", "rejection", "vi", "importance")


class PosteriorBuilder(QuietTrainer):
    """A ratio trainer whose posteriors are sampled by `MHPosterior` by default."""

    # What the prior was cut to, where the estimator fitted last is for one observation.
    _truncated_prior: Distribution | None = None

    def build_posterior(
        self,
        density_estimator: RatioEstimator | None = None,
        prior: Distribution | None = None,
        sample_with: Literal["mh", "mcmc", "rejection", "vi", "importance"] = "mh",
        posterior_parameters: PosteriorParameters | None = None,
        **kwargs: Any,
    ) -> NeuralPosterior:
        """Build the posterior, an `MHPosterior` unless told otherwise.

        Args:
            density_estimator: The ratio estimator; by default the one fitted last.
            prior: The prior; by default the one given at the start, or what
                `train_truncated` cut it to.
            sample_with: `"mh"` for `MHPosterior`; `"mcmc"`, `"rejection"`, `"vi"` or
                `"importance"` for sbi's own posteriors.
            posterior_parameters: Settings of the posterior; their type decides which
                posterior is built, as in sbi.
            **kwargs: sbi's older settings, such as `mcmc_method`, as in `NRE_A`.

        Returns:
            A posterior with `sample`, `sample_batched` and `log_prob`.

        Raises:
            CallOrderError: If nothing was trained and no estimator is given.
            TypeError: If the estimator or the parameters have the wrong type.
            ValueError: If there is no prior, or `sample_with` is unknown.
        """
        check_choice("sample_with", sample_with, SAMPLERS)
        if density_estimator is None and self._neural_net is None:
            raise CallOrderError(
                "There is no estimator to build a posterior from. Call `train` or "
                "`train_online` first, or pass `density_estimator`."
            )
        if density_estimator is not None and not isinstance(
            density_estimator, RatioEstimator
        ):
            raise TypeError(
                "`density_estimator` must be a RatioEstimator, got "
                f"{type(density_estimator).__name__}."
            )
        if prior is None and density_estimator is None:
            prior = self._truncated_prior
        if prior is not None:
            check_prior("prior", prior)
        if sample_with == "mh" and posterior_parameters is None:
            if kwargs:
                raise ValueError(
                    f"`{next(iter(kwargs))}` must come with the sampler it is for: add "
                    "`sample_with='mcmc'` or another of sbi's. For the default sampler "
                    "pass `posterior_parameters=MHPosteriorParameters(...)`."
                )
            posterior_parameters = MHPosteriorParameters()
        return super().build_posterior(
            density_estimator,
            prior,
            sample_with,
            posterior_parameters=posterior_parameters,
            **kwargs,
        )

    def _create_posterior(
        self,
        estimator: RatioEstimator,
        prior: Distribution,
        sample_with: str,
        device: str | torch.device,
        posterior_parameters: PosteriorParameters,
    ) -> NeuralPosterior:
        if not isinstance(posterior_parameters, MHPosteriorParameters):
            return super()._create_posterior(
                estimator, prior, sample_with, device, posterior_parameters
            )
        potential_fn, theta_transform = self._get_potential_function(prior, estimator)
        return MHPosterior(
            potential_fn,
            proposal=prior,
            theta_transform=theta_transform,
            parameters=posterior_parameters,
            device=device,
        )
