"""`MHPosterior`: batched likelihood-free Metropolis-Hastings as an sbi posterior."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import TorchTransform
from torch import nn
from torch.distributions import Distribution

from sbi_aalr.checks import check_device, check_prior
from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.persistence.posterior_files import read
from sbi_aalr.posterior.describe import describe
from sbi_aalr.posterior.inputs import check_estimator, check_parameters
from sbi_aalr.posterior.last_run import LastRun
from sbi_aalr.posterior.parameters import MHPosteriorParameters
from sbi_aalr.posterior.saving import save
from sbi_aalr.posterior.sbi_settings import change_settings
from sbi_aalr.sampling.prior_transform import find_transform
from sbi_aalr.seeding import generators_kept


class MHPosterior(LastRun):
    r"""Posterior p(theta|x) sampled by likelihood-free Metropolis-Hastings.

    The target is log r(x|theta) + log p(theta), with the log-ratio from a ratio
    estimator. Chains of one observation or of thousands run side by side, x is embedded
    once for each, and draws go on until R-hat and the effective sample size are good
    enough, or `max_steps` is spent, which a warning tells.

    Args:
        potential_fn: sbi's potential: from `ratio_estimator_based_potential`, or any
            other, or a callable `(theta, x_o) -> (N,)` of theta `(N, D)`.
        proposal: Where candidates for the starts come from; the prior by default. A
            potential without a prior is sampled where this has a density.
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
        # An exact ratio has no weights.
        device = next((str(one.device) for one in estimator.parameters()), "cpu")
        potential_fn = RatioBasedPotential(estimator, prior, device=device)
        return cls(potential_fn, prior, find_transform(prior, device), **settings)

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
        embedding_net_x: nn.Module | None = None,
        base: object = None,
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
            embedding_net_x: The net of the data, where one was given to the trainer;
                its weights do not matter.
            base: The density that was given to the trainer as `base`, where one was;
                its weights do not matter, either. It is not used where it had no part
                in the ratio.
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
        saved = read(
            folder,
            prior=prior,
            classifier=classifier,
            embedding_net_x=embedding_net_x,
            base=base,
            settings=settings,
        )
        names = saved.parameter_names if parameter_names is None else parameter_names
        chosen: dict[str, Any] = {**saved.settings, "parameter_names": names}
        posterior = cls.from_estimator(saved.estimator, saved.prior, **chosen)
        if saved.x is not None:
            with warnings.catch_warnings():
                # Told when it was set.
                warnings.simplefilter("ignore", FarObservationWarning)
                posterior.set_default_x(saved.x)
        # Moving makes the prior anew, and rounds the factor of a covariance anew.
        return posterior if device == "cpu" else posterior.to(device)
