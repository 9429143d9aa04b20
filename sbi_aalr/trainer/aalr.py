"""`AALR`: the trainer of amortized approximate likelihood ratio estimators."""

from collections.abc import Callable, Sequence
from typing import Any

from sbi.inference.trainers._contracts import LossArgsNRE_A
from sbi.neural_nets.estimators.base import ConditionalEstimatorBuilder
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.tensorboard.writer import SummaryWriter

from sbi_aalr.checks import check_device, check_positive_int
from sbi_aalr.seeding import generators_kept
from sbi_aalr.trainer.no_tracker import check_logging
from sbi_aalr.trainer.online import fit_online
from sbi_aalr.trainer.sbi_trainer import SbiTrainer, check_loss_arguments
from sbi_aalr.trainer.stored import NO_LIMIT, fit_stored
from sbi_aalr.trainer.truncated import fit_truncated
from sbi_aalr.training.classifiers import resolve_classifier
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import TrainingSettings


class AALR(SbiTrainer):
    r"""Amortized approximate ratio estimation, Hermans et al. (2020).

    A classifier is trained to tell joint pairs (theta, x) from marginal pairs
    (theta', x); its logit is the log-ratio log r(x|theta) = log p(x|theta) - log p(x),
    for any x. Where sbi's `NRE_A` stands, `AALR` stands too: `append_simulations`,
    `train` and `build_posterior` mean the same, and `train_online` adds Algorithm 1,
    which simulates while it trains.

    After Ctrl-C the estimator is as far as it had come, which `summary` tells. Before
    the first step, and after an error, all is as before.

    Args:
        prior: Prior over the parameters. May be left out where only stored simulations
            are used; then pass it to `build_posterior`.
        classifier: The network. `"two_towers"` is separable, of a size that suits the
            budget; `"residual_mlp"` takes theta and x together; `"selu_mlp"` is the
            paper's; `"mlp"`, `"resnet"`, `"linear"` are sbi's. Or `build(theta, x) ->
            RatioEstimator`, as from `sbi_aalr.networks`, or sbi's `ClassifierConfig`.
        device: Where to train, such as `"cuda:0"`.
        logging_level, summary_writer: As in sbi.
        tracker: Where to log metrics; nowhere by default.
        show_progress_bars: Whether to show progress while training.
        loss: What to train on; by default all pairs of a batch and InfoNCE where the
            network is separable, else Algorithm 1 as published.
        parameter_names: One name a parameter; by default the prior's own.
        base: Densities to stack with the towers, of theta given x (`"posterior"`), of
            x given theta (`"likelihood"`), or both (`"auto"`); None for towers alone;
            or an estimator or posterior of sbi's NPE or NLE, as one more of them.
        exchangeable: Whether data `(N, T, E)` are T i.i.d. trials each.
        embedding_net_x: Net of the scaled data; must give `(N, F)`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, or names do not fit.

    References:
        Hermans, Begy & Louppe (2020), *Likelihood-free MCMC with Amortized Approximate
        Ratio Estimators*, ICML, arXiv:1903.04057.

    Example:
        >>> from sbi_aalr.simulators import TwoMoons
        >>> task = TwoMoons()
        >>> trainer = AALR(task.prior, show_progress_bars=False)
        >>> estimator = trainer.train_online(task.simulate, num_simulations=1_000)
        >>> posterior = trainer.build_posterior()
    """

    @generators_kept()
    def __init__(
        self,
        prior: Distribution | None = None,
        classifier: str | ConditionalEstimatorBuilder[RatioEstimator] = "two_towers",
        device: str = "cpu",
        logging_level: int | str = "warning",
        summary_writer: SummaryWriter | None = None,
        tracker: Tracker | None = None,
        show_progress_bars: bool = True,
        loss: RatioLoss | None = None,
        parameter_names: Sequence[str] | None = None,
        base: Any = "auto",
        embedding_net_x: nn.Module | None = None,
        exchangeable: bool = False,
    ) -> None:
        self._keep(prior, loss, parameter_names, base, embedding_net_x, exchangeable)
        log = check_logging(logging_level, summary_writer, tracker, show_progress_bars)
        super().__init__(
            prior=prior,
            classifier=resolve_classifier(classifier, embedding_net_x),
            device=check_device("device", device),
            **log,
        )

    def train(
        self,
        training_batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        stop_after_epochs: int = 20,
        max_num_epochs: int = NO_LIMIT,
        clip_max_norm: float | None = 5.0,
        resume_training: bool = False,
        discard_prior_samples: bool = False,
        retrain_from_scratch: bool = False,
        show_train_summary: bool = False,
        dataloader_kwargs: dict[str, Any] | None = None,
        loss_kwargs: LossArgsNRE_A | None = None,
        seed: int | None = None,
        time_limit: float | None = None,
    ) -> RatioEstimator:
        """Fit the estimator to the stored simulations, of one or more rounds.

        The arguments mean what they mean in sbi; where batch size and learning rate are
        not given, the recipe for the number of simulations decides. An epoch is a pass
        over the simulations; each meets other contrasts in every pass.

        Args:
            training_batch_size: Rows in a batch; by default the recipe's.
            learning_rate: Largest learning rate of AdamW; by default the recipe's.
            validation_fraction: Share of the simulations held out for early stopping.
            stop_after_epochs: Epochs without improvement after which to stop.
            max_num_epochs: Most epochs to train for. A recipe that knows how many it
                wants, as that for `"two_towers"` does, may need fewer.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            resume_training: Go on from the last call, with the same rows held out, and
                with a learning rate that falls anew. Of rows appended since, as large a
                share is held out, and the others are trained on.
            discard_prior_samples: Leave out round 0 in later rounds.
            retrain_from_scratch: Begin with new weights.
            show_train_summary: Print sbi's summary after training.
            dataloader_kwargs: Passed on to torch's data loaders.
            loss_kwargs: sbi's arguments of the loss, which are not used.
            seed: Makes the run repeatable; the global generators are left untouched.
            time_limit: Seconds after which to end, the learning rate having come down.
                A limit never makes training longer.

        Returns:
            The fitted ratio estimator: averaged weights, of the epoch with the least
            held-out loss. `summary` gains the losses of every epoch of the network.

        Raises:
            CallOrderError: If no simulations were appended, or there is nothing to
                resume.
            TypeError: If an argument has the wrong type.
            ValueError: If there are too few simulations for a batch of two in both
                parts, or they have another shape than those fitted to before.

        Warns:
            UserWarning: If `max_num_epochs` ended the training.
        """
        check_loss_arguments(loss_kwargs)
        if training_batch_size is not None:
            check_positive_int("training_batch_size", training_batch_size)
        return fit_stored(
            self,
            TrainingSettings(
                training_batch_size, learning_rate, clip_max_norm, time_limit
            ),
            validation_fraction=validation_fraction,
            stop_after_epochs=stop_after_epochs,
            max_num_epochs=max_num_epochs,
            resume_training=resume_training,
            discard_prior_samples=discard_prior_samples,
            retrain_from_scratch=retrain_from_scratch,
            show_train_summary=show_train_summary,
            dataloader_kwargs=dataloader_kwargs,
            seed=seed,
        )

    def train_online(
        self,
        simulator: Callable[..., Any],
        num_simulations: int = 1_000_000,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        clip_max_norm: float | None = 5.0,
        retrain_from_scratch: bool = False,
        seed: int | None = None,
        num_passes: int | None = None,
        time_limit: float | None = None,
    ) -> RatioEstimator:
        """Fit the estimator while simulating: Algorithm 1.

        Each step of the first pass draws theta from the prior, simulates x from theta,
        and takes one gradient step. In further passes the same simulations meet other
        contrasts, in another order; a few are then held out, and the pass that did best
        on them is kept.

        Args:
            simulator: Any simulator that sbi accepts: over a batch `(N, D)` or one
                parameter set at a time, in torch or numpy.
            num_simulations: Budget, in simulations; 5 more find out whether the
                simulator takes batches.
            batch_size: Simulations in a step; by default the recipe's.
            learning_rate: Largest learning rate of AdamW, which falls to zero in a
                line; by default the recipe's.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            retrain_from_scratch: Begin with new weights, and not with those fitted
                before. After rounds, whose prior was cut, that is so in any case.
            seed: Makes the run repeatable; the global generators are left untouched.
            num_passes: How often each simulation is used; with 1, none is kept.
            time_limit: Seconds after which to end, simulations included, the learning
                rate having come down; the budget may not be spent. A limit never makes
                training longer.

        Returns:
            The fitted ratio estimator, its weights averaged over the last steps.
            `summary["training_loss"]` gains the loss of every step of the network,
            `summary["learning_rate"]` its learning rate, `summary["validation_loss"]`
            the held-out loss of every pass, and `summary["recipe"]` what was chosen.

        Raises:
            CallOrderError: If there is no prior.
            RuntimeError: If the loss becomes NaN.
            TypeError: If `simulator` is no callable or a count no int.
            ValueError: If a count is not positive, or the simulator raises, returns
                another number of rows, NaN or infinity.

        References:
            Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.
        """
        return fit_online(
            self,
            simulator,
            num_simulations,
            TrainingSettings(batch_size, learning_rate, clip_max_norm, time_limit),
            num_passes=num_passes,
            retrain_from_scratch=retrain_from_scratch,
            seed=seed,
        )

    def train_truncated(
        self,
        simulator: Callable[..., Any],
        x_o: Tensor,
        num_simulations: int = 100_000,
        num_rounds: int = 3,
        epsilon: float = 1e-3,
        time_limit: float | None = None,
        seed: int | None = None,
    ) -> RatioEstimator:
        """Fit the estimator in rounds, for one observation.

        The first round draws theta from the prior, each further one from the prior
        without what the last round found negligible. `build_posterior` then uses the
        truncated prior; the estimator is of no use for other observations.

        Args:
            simulator: Any simulator that sbi accepts, as in `train_online`.
            x_o: The observation, shape `event_shape` or `(1, *event_shape)`.
            num_simulations: Budget of all rounds together, in simulations.
            num_rounds: Number of rounds, of as many simulations each.
            epsilon: Share of the posterior that each round may cut off.
            time_limit: Seconds of training in each round, and of drawing inside cuts.
            seed: Makes the run repeatable; the global generators are left untouched.

        Returns:
            The ratio estimator of the last round. `summary["accepted_share"]` gains the
            share of the proposals that passed the cuts in each round; proposals for a
            uniform prior come from the box around the posterior.

        Raises:
            CallOrderError: If there is no prior.
            RuntimeError: If the cuts leave so little of the prior that drawing from it
                by rejection fails. The estimator of the round before stays.
            TypeError: If a count is no int.
            ValueError: If a count is not positive, `epsilon` not between 0 and 1, `x_o`
                not one observation, or the simulator returns no finite rows.

        Warns:
            ConvergenceWarning: If the chains that a cut is made from did not converge.

        Example:
            >>> from sbi_aalr import AALR
            >>> from sbi_aalr.simulators import GaussianLinear
            >>> task = GaussianLinear()
            >>> x_o = task.simulate(task.prior.sample((1,)))
            >>> trainer = AALR(task.prior, show_progress_bars=False)
            >>> estimator = trainer.train_truncated(
            ...     task.simulate, x_o, num_simulations=2_000, num_rounds=2,
            ...     time_limit=2, seed=1,
            ... )
            >>> posterior = trainer.build_posterior()
        """
        return fit_truncated(
            self,
            simulator,
            x_o,
            num_simulations,
            TrainingSettings(time_limit=time_limit),
            num_rounds=num_rounds,
            epsilon=epsilon,
            seed=seed,
        )
