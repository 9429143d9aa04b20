"""`AALR`: the trainer of amortized approximate likelihood ratio estimators."""

from collections.abc import Callable
from itertools import chain, islice
from typing import Any, Self

import torch
from sbi.inference.trainers._contracts import LossArgsNRE_A
from sbi.neural_nets.estimators.base import ConditionalEstimatorBuilder
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.tensorboard.writer import SummaryWriter

from sbi_aalr import online
from sbi_aalr.checks import (
    check_non_negative_int,
    check_positive_float,
    check_positive_int,
    check_simulations,
)
from sbi_aalr.classifiers import resolve_classifier
from sbi_aalr.posterior_builder import PosteriorBuilder
from sbi_aalr.stream import Batch, seeded, stream

# Enough rows for the quantiles that the inputs are scaled by.
_SCALING_ROWS = 1024


class AALR(PosteriorBuilder):
    r"""Amortized approximate ratio estimation, Hermans et al. (2020).

    A classifier is trained to tell joint pairs (theta, x) from marginal pairs
    (theta', x); its logit is the log-ratio log r(x|theta) = log p(x|theta) - log p(x),
    for any x. Where sbi's `NRE_A` stands, `AALR` stands too: `append_simulations`,
    `train` and `build_posterior` mean the same, and `train_online` adds Algorithm 1,
    which simulates while it trains.

    Args:
        prior: Prior over the parameters. May be left out where only stored simulations
            are used; then pass it to `build_posterior`.
        classifier: The network. `"selu_mlp"` is the paper's; `"mlp"`, `"resnet"` and
            `"linear"` are sbi's; a callable `build(theta, x) -> RatioEstimator` or an
            sbi `ClassifierConfig` (of its residual network) is taken as it is.
        device: Where to train, such as `"cpu"` or `"cuda:0"`.
        logging_level: Least severity of sbi's log messages.
        summary_writer: sbi's deprecated alias of `tracker`.
        tracker: Where to log metrics. Without one nothing is written to disk.
        show_progress_bars: Whether to show progress while training.

    Raises:
        TypeError: If `prior` is no torch distribution or `classifier` no classifier.
        ValueError: If `classifier` is an unknown name.

    References:
        Hermans, Begy & Louppe (2020), *Likelihood-free MCMC with Amortized Approximate
        Ratio Estimators*, ICML, arXiv:1903.04057.

    Example:
        >>> from sbi_aalr.simulators import SLCP
        >>> slcp = SLCP()
        >>> trainer = AALR(slcp.prior, show_progress_bars=False)
        >>> estimator = trainer.train_online(slcp.simulate, num_simulations=2_000)
        >>> posterior = trainer.build_posterior()
    """

    _neural_net: RatioEstimator | None

    def __init__(
        self,
        prior: Distribution | None = None,
        classifier: str | ConditionalEstimatorBuilder[RatioEstimator] = "selu_mlp",
        device: str = "cpu",
        logging_level: int | str = "warning",
        summary_writer: SummaryWriter | None = None,
        tracker: Tracker | None = None,
        show_progress_bars: bool = True,
    ) -> None:
        if prior is not None and not isinstance(prior, Distribution):
            raise TypeError(
                "`prior` must be a torch Distribution, got "
                f"{type(prior).__name__}. Wrap it first with "
                "sbi.utils.user_input_checks.process_prior."
            )
        super().__init__(
            prior=prior,
            classifier=resolve_classifier(classifier),
            device=device,
            logging_level=logging_level,
            summary_writer=summary_writer,
            tracker=tracker,
            show_progress_bars=show_progress_bars,
        )

    def append_simulations(
        self,
        theta: Tensor,
        x: Tensor,
        exclude_invalid_x: bool = False,
        from_round: int = 0,
        algorithm: str = "AALR",
        data_device: str | None = None,
    ) -> Self:
        """Store simulations to train on later, as in sbi.

        Args:
            theta: Parameters, shape `(N, D)`.
            x: Data simulated from them, shape `(N, *event_shape)`.
            exclude_invalid_x: Leave out rows of `x` with NaN or infinity. The ratio is
                then systematically wrong wherever such rows are common.
            from_round: Round the simulations come from; 0 means from the prior.
            algorithm: Name for sbi's messages.
            data_device: Where to keep the data, by default the training device.

        Returns:
            This trainer, so that calls can be chained.

        Raises:
            TypeError: If `theta` or `x` is no tensor.
            ValueError: If they are empty, differ in their number of rows or from what
                was appended before in their width, or hold NaN or infinity.
        """
        check_non_negative_int("from_round", from_round)
        earlier = (self._theta_roundwise[:1] + self._x_roundwise[:1]) or None
        theta, x = check_simulations(theta, x, exclude_invalid_x, earlier)
        return super().append_simulations(
            theta, x, exclude_invalid_x, from_round, algorithm, data_device
        )

    def train(
        self,
        training_batch_size: int = 200,
        learning_rate: float = 5e-4,
        validation_fraction: float = 0.1,
        stop_after_epochs: int = 20,
        max_num_epochs: int = 2**31 - 1,
        clip_max_norm: float | None = 5.0,
        resume_training: bool = False,
        discard_prior_samples: bool = False,
        retrain_from_scratch: bool = False,
        show_train_summary: bool = False,
        dataloader_kwargs: dict[str, Any] | None = None,
        loss_kwargs: LossArgsNRE_A | None = None,
        seed: int | None = None,
    ) -> RatioEstimator:
        """Fit the estimator to the stored simulations, of one or more rounds.

        Everything but the loss is sbi's: the split for validation, early stopping, and
        the meaning of each argument. Contrasting parameters come from other rows of the
        batch.

        Args:
            training_batch_size: Rows in a batch.
            learning_rate: Learning rate of Adam.
            validation_fraction: Share of the simulations held out for early stopping.
            stop_after_epochs: Epochs without improvement after which to stop.
            max_num_epochs: Most epochs to train for; sbi runs one more than it says.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            resume_training: Go on from where the last call stopped.
            discard_prior_samples: Leave out round 0 in later rounds.
            retrain_from_scratch: Begin with new weights.
            show_train_summary: Print sbi's summary after training.
            dataloader_kwargs: Passed on to torch's data loaders.
            loss_kwargs: sbi's arguments of the loss; always two atoms here.
            seed: Makes the run repeatable; the global generators are left untouched.

        Returns:
            The fitted ratio estimator.

        Raises:
            RuntimeError: If no simulations were appended.
            ValueError: If there are too few simulations for a batch of two in both the
                training and the validation part.
        """
        if not self._theta_roundwise:
            raise RuntimeError(
                "There are no simulations to train on. Call "
                "`append_simulations(theta, x)` first, or `train_online(simulator)`."
            )
        num_simulations = sum(theta.shape[0] for theta in self._theta_roundwise)
        if min(validation_fraction, 1 - validation_fraction) * num_simulations < 2:
            raise ValueError(
                "`append_simulations` must be given enough rows for two in both the "
                f"training and the validation part, got {num_simulations} rows with "
                f"`validation_fraction` = {validation_fraction}. Simulate more."
            )
        with seeded(seed):
            return super().train(
                training_batch_size=training_batch_size,
                learning_rate=learning_rate,
                validation_fraction=validation_fraction,
                stop_after_epochs=stop_after_epochs,
                max_num_epochs=max_num_epochs,
                clip_max_norm=clip_max_norm,
                resume_training=resume_training,
                discard_prior_samples=discard_prior_samples,
                retrain_from_scratch=retrain_from_scratch,
                show_train_summary=show_train_summary,
                dataloader_kwargs=dataloader_kwargs,
                loss_kwargs=loss_kwargs or LossArgsNRE_A(),
            )

    def train_online(
        self,
        simulator: Callable[..., Any],
        num_simulations: int = 1_000_000,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        clip_max_norm: float | None = 5.0,
        retrain_from_scratch: bool = False,
        seed: int | None = None,
    ) -> RatioEstimator:
        """Fit the estimator while simulating: Algorithm 1.

        Each step draws theta and, independently, theta' from the prior, simulates x
        from theta, and takes one gradient step on the binary cross-entropy between the
        pairs (theta, x) and (theta', x). No simulation is used twice or kept.

        Args:
            simulator: Any simulator that sbi accepts: over a batch `(N, D)` or one
                parameter set at a time, in torch or numpy.
            num_simulations: Budget, in simulations.
            batch_size: Simulations in a step.
            learning_rate: Largest learning rate of Adam; it falls to zero along a
                cosine.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            retrain_from_scratch: Begin with new weights where an estimator was fitted
                before; else go on with that one.
            seed: Makes the run repeatable; the global generators are left untouched.

        Returns:
            The fitted ratio estimator. `summary["training_loss"]` gains the loss of
            every step, `summary["learning_rate"]` its learning rate.

        Raises:
            RuntimeError: If there is no prior, or the loss becomes NaN.
            TypeError: If `simulator` is no callable or a count no int.
            ValueError: If a count is not positive, or the simulator raises, returns
                another number of rows, NaN or infinity.

        References:
            Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.
        """
        if not callable(simulator):
            raise TypeError(
                f"`simulator` must be callable, got {type(simulator).__name__}."
            )
        check_positive_int("num_simulations", num_simulations)
        batch_size = min(check_positive_int("batch_size", batch_size), num_simulations)
        check_positive_float("learning_rate", learning_rate)
        if self._prior is None:
            raise RuntimeError(
                "Algorithm 1 draws from the prior. Give it at the start: `AALR(prior)`."
            )
        with seeded(seed):
            batched, prior = online.prepare(simulator, self._prior)
            batches = stream(batched, prior, num_simulations, batch_size)
            opening = list(islice(batches, -(-_SCALING_ROWS // batch_size)))
            if self._neural_net is None or retrain_from_scratch:
                theta, _, x = (
                    torch.cat(part).cpu() for part in zip(*opening, strict=True)
                )
                self._neural_net = self._build_neural_net(theta, x)
            estimator: RatioEstimator = self._neural_net.to(self._device)
            self._x_shape = opening[0].x.shape[1:]
            history = online.fit(
                estimator,
                chain(opening, batches),
                num_steps=-(-num_simulations // batch_size),
                num_simulations=num_simulations,
                learning_rate=learning_rate,
                clip_max_norm=clip_max_norm,
                show_progress_bars=self._show_progress_bars,
            )
        self._record(history)
        return estimator

    def _loss(self, theta: Tensor, x: Tensor, num_atoms: int) -> Tensor:
        """Loss of each pair in a batch of stored simulations, shape `(N,)`.

        The batch is in random order, so another row's theta is a draw from the marginal
        that is independent of x. A shift by one or more never meets a row's own theta.
        """
        shift = int(torch.randint(1, theta.shape[0], ()))
        batch = Batch(theta, theta.roll(shift, dims=0), x)
        return online.batch_loss(self._neural_net, batch)

    def _record(self, history: online.History) -> None:
        """Write a fit's history into the summary and the tracker."""
        offset = len(self._summary["training_loss"])
        self._summary["training_loss"].extend(history.losses)
        self._summary.setdefault("learning_rate", []).extend(history.learning_rates)
        self._summary.setdefault("fit_seconds", []).append(history.seconds)
        for step, loss in enumerate(history.losses, start=offset):
            self._tracker.log_metric("training_loss", loss, step=step)
        self._tracker.flush()
