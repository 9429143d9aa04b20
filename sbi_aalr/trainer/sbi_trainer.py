"""`SbiTrainer`: what sbi asks of a trainer of ratio estimators.

sbi opens a TensorBoard folder `./sbi-logs` wherever a trainer is constructed, and
prints while it trains. Here nothing is written unless a tracker is given, and progress
is a bar that can be switched off. Posteriors are `MHPosterior` unless one of sbi's own
is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.inference.posteriors.posterior_parameters import PosteriorParameters
from sbi.inference.trainers.nre.nre_base import RatioEstimatorTrainer
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from sbi.utils import mask_sims_from_prior
from torch import Tensor, nn
from torch.distributions import Distribution

from sbi_aalr.checks import (
    check_bool,
    check_choice,
    check_device,
    check_non_negative_int,
    check_overlap,
    check_prior,
    check_simulations,
    find_parameter_names,
)
from sbi_aalr.errors import CallOrderError
from sbi_aalr.networks.builder import check_embedding_nets
from sbi_aalr.posterior import MHPosterior, MHPosteriorParameters
from sbi_aalr.posterior.sbi_settings import choose_settings
from sbi_aalr.sampling.truncated_prior import take_off_cuts
from sbi_aalr.sampling.validity import Validity
from sbi_aalr.seeding import generators_kept
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.trainer.copies import pack, unpack
from sbi_aalr.trainer.describe import describe
from sbi_aalr.trainer.left_out import leave_out_invalid
from sbi_aalr.trainer.no_tracker import NoTracker
from sbi_aalr.trainer.simulations import (
    append_store,
    correct_prior,
    find_rounds,
    join_rows,
    make_loaders,
)
from sbi_aalr.training.bases import check_base
from sbi_aalr.training.ratio_loss import RatioLoss

# From a warning to whoever called `build_posterior`, past its decorators.
_STACKLEVEL = 4
SAMPLERS = ("mh", "mcmc", "rejection", "vi", "importance")


class SbiTrainer(RatioEstimatorTrainer):
    """A ratio trainer of sbi's that keeps no logs unasked and builds `MHPosterior`."""

    # sbi has None here before the first network is built.
    _neural_net: Any
    # What to train on; None for what suits the network.
    _ratio_loss: RatioLoss | None = None
    # What the parameters are called, where they have names.
    _parameter_names: list[str] | None = None
    # What the default recipe starts from, the user's net of the data, and what it fits.
    _base: Any = None
    _exchangeable: bool = False
    _embedding_net_x: nn.Module | None = None
    _structures: list[Any] | None = None
    # Where the prior of a round is left, and simulations of what was cut off before.
    _cut: Callable[[Tensor], Tensor] | None = None
    _cut_log_share: float = 0.0
    _cut_off: tuple[Tensor, Tensor] | None = None
    # Rows trained on and rows held out in the last fit, by place among all.
    _split: tuple[Tensor, ...] | None = None
    # What the prior was cut to, where the estimator fitted last is for one observation.
    _truncated_prior: Distribution | None = None
    # Parameters that failed, of each store; how often those of the last fit succeed.
    _failures: tuple[Tensor, ...] = ()
    _validity: Validity | None = None

    def _keep(
        self,
        prior: object,
        loss: object,
        parameter_names: Sequence[str] | None,
        base: object,
        embedding_net_x: nn.Module | None,
        exchangeable: bool,
    ) -> None:
        """Check and keep the arguments of `AALR` that sbi's trainers do not have."""
        check_embedding_nets(None, embedding_net_x)
        self._embedding_net_x = embedding_net_x
        self._base, self._given_base = check_base(base), base
        self._exchangeable = check_bool("exchangeable", exchangeable)
        known = None if prior is None else check_prior("prior", prior)
        if loss is not None and not isinstance(loss, RatioLoss):
            raise TypeError(f"`loss` must be a RatioLoss, got {type(loss).__name__}.")
        self._ratio_loss = loss
        self._parameter_names = find_parameter_names(parameter_names, known)

    def __str__(self) -> str:
        """Say what is trained on, and how far it came."""
        return describe(self)

    def append_simulations(
        self,
        theta: Tensor | SimulationStore,
        x: Tensor | None = None,
        exclude_invalid_x: bool = False,
        from_round: int = 0,
        algorithm: str = "AALR",
        data_device: str | None = None,
    ) -> Self:
        """Store simulations to train on later, as in sbi.

        Args:
            theta: Parameters, shape `(N, D)`; or a store of simulations, whose data
                are read as they are needed, and whose failures the posterior corrects.
            x: Data simulated from them, shape `(N, *event_shape)`; None for a store.
            exclude_invalid_x: Leave out rows of `x` with NaN or infinity. The ratio is
                then systematically wrong wherever such rows are common, for which the
                posterior corrects, as for failures of a store.
            from_round: Round the simulations come from; 0 means from the prior.
            algorithm: Name for sbi's messages, of which there are none.
            data_device: Where to keep the data, by default the training device.

        Returns:
            This trainer, so that calls can be chained.

        Raises:
            TypeError: If `theta` or `x` is no tensor.
            ValueError: If they are empty, differ in their number of rows or from what
                was appended before in their width, or hold NaN or infinity, or the
                prior rules out parameters.

        Warns:
            InvalidSimulationsWarning: If rows were left out.
        """
        check_bool("exclude_invalid_x", exclude_invalid_x)
        from_round = check_non_negative_int("from_round", from_round)
        if isinstance(theta, SimulationStore):
            append_store(self, theta, x, from_round)
            return self
        device = self._device
        if data_device is not None:
            device = check_device("data_device", data_device)
        earlier = (self._theta_roundwise[:1] + self._x_roundwise[:1]) or None
        # At the edge of a cut, ratios that are rounded decide.
        prior = take_off_cuts(self._prior)
        theta, x = check_simulations(theta, x, exclude_invalid_x, earlier, prior)
        if exclude_invalid_x:
            theta, x, failed = leave_out_invalid(theta, x)
            if len(failed):
                self._failures = (*self._failures, failed.cpu())
        # Not by sbi's own method: it warns of z-scoring, which there is none of here.
        self._theta_roundwise.append(theta.to(device))
        self._x_roundwise.append(x.to(device))
        self._prior_masks.append(mask_sims_from_prior(from_round, len(theta)))
        self._data_round_index.append(from_round)
        return self

    def get_simulations(self, starting_round: int = 0) -> tuple[Tensor, Any, Tensor]:
        """Return parameters, data and sbi's masks of the rounds from one on.

        Data of stores are `StoredRows`, which are read as they are asked for.
        """
        used = find_rounds(self._data_round_index, starting_round)
        theta, masks = (
            torch.cat([parts[i] for i in used])
            for parts in (self._theta_roundwise, self._prior_masks)
        )
        return theta, join_rows([self._x_roundwise[i] for i in used]), masks

    def get_dataloaders(
        self,
        starting_round: int = 0,
        training_batch_size: int = 200,
        validation_fraction: float = 0.1,
        resume_training: bool = False,
        dataloader_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Return loaders of the rows to train on, and of those held out.

        As in sbi, but with a faster loader unless `dataloader_kwargs` are given.
        """
        simulations = self.get_simulations(starting_round)
        if not resume_training:
            order = torch.randperm(len(simulations[0]))
            num_training = int((1 - validation_fraction) * len(order))
            self.train_indices, self.val_indices = order.split(
                (num_training, len(order) - num_training)
            )
        return make_loaders(self, simulations, training_batch_size, dataloader_kwargs)

    @generators_kept()
    @torch.inference_mode(False)
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
            **kwargs: sbi's older settings, such as `mcmc_method`, as in `NRE_A`. With
                `"mh"`, those without a meaning there are told in a warning.

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
            prior = correct_prior(self, self._truncated_prior)
        if prior is not None:
            estimator = density_estimator or self._neural_net
            check_prior("prior", prior, estimator.input_shape.numel())
            check_overlap("prior", prior, self._theta_roundwise)
        if sample_with == "mh" and posterior_parameters is None:
            posterior_parameters, kwargs = choose_settings(kwargs, _STACKLEVEL), {}
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
        return MHPosterior.from_estimator(
            estimator,
            prior,
            parameters=posterior_parameters,
            device=device,
            parameter_names=self._parameter_names,
        )

    def __getstate__(self) -> dict[str, Any]:
        return pack(dict(vars(self)))

    def __setstate__(self, state_dict: dict[str, Any]) -> None:
        super().__setstate__(unpack(state_dict))

    def _default_tracker(self) -> Tracker:
        return NoTracker()

    def _record(self, history: Mapping[str, Sequence[float]]) -> None:
        """Add to the summary and write the same into the tracker."""
        for name, values in history.items():
            earlier = self._summary.setdefault(name, [])
            for step, value in enumerate(values, start=len(earlier)):
                self._tracker.log_metric(name, value, step=step)
            earlier.extend(values)
        self._tracker.flush()

    def _loss(self, theta: Tensor, x: Tensor, num_atoms: int) -> Tensor:
        """Refuse: sbi's own loop, which would call this, trains nothing here."""
        raise NotImplementedError("`RatioLoss` says what is trained on.")
