"""`AALR`: the trainer of amortized approximate likelihood ratio estimators."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from sbi.inference.trainers._contracts import LossArgsNRE_A
from sbi.neural_nets.estimators.base import ConditionalEstimatorBuilder
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from torch import nn
from torch.distributions import Distribution
from torch.utils.tensorboard.writer import SummaryWriter

from sbi_aalr.checks import check_device, check_positive_int
from sbi_aalr.seeding import generators_kept
from sbi_aalr.trainer.begin import check_use
from sbi_aalr.trainer.checkpoints import SECONDS_BETWEEN, Checkpoints
from sbi_aalr.trainer.loading import load_trainer
from sbi_aalr.trainer.no_tracker import check_logging
from sbi_aalr.trainer.saving import save_trainer
from sbi_aalr.trainer.simulating import SimulatingTrainer
from sbi_aalr.trainer.stored import NO_LIMIT, fit_stored
from sbi_aalr.training.classifiers import resolve_classifier
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import TrainingSettings


class AALR(SimulatingTrainer):
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
            Where `prior` is left out, or `classifier` or `loss` is chosen, `"auto"`
            means the network alone.
        exchangeable: Whether data `(N, T, E)` are T i.i.d. trials each.
        embedding_net_x: Net of the scaled data; must give `(N, F)`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, or names do not fit; if another base than
            `"auto"` is asked for where there can be none.

    References:
        Hermans, Begy & Louppe (2020), *Likelihood-free MCMC with Amortized Approximate
        Ratio Estimators*, ICML, arXiv:1903.04057.

    Example:
        >>> from sbi_aalr.simulators import TwoMoons
        >>> task = TwoMoons()
        >>> trainer = AALR(task.prior, show_progress_bars=False)
        >>> estimator = trainer.train_online(task.simulate, 1_000, time_limit=4)
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
        check_use(self)

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
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = SECONDS_BETWEEN,
        resume: bool = True,
        tune: bool | str | Sequence[str] = False,
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
            checkpoint: Folder that keeps how far the call has come, so that the same
                call goes on after a kill; on the CPU it then gives bit for bit what an
                unbroken one gives.
            checkpoint_every: Seconds from one checkpoint to the next; at least 20 times
                as long as writing one takes.
            resume: Whether to go on from what is in the folder, if there is any; False
                to begin anew and replace it.
            tune: Hyperparameters to tune by gradient, such as `("weight_decay",
                "octaves")`; True for these two, and for `"dropout"` where they are
                not clearly better. What comes of it is kept if it is better on the
                rows held out; `summary["tuning"]` tells.

        Returns:
            The fitted ratio estimator: averaged weights, of the epoch with the least
            held-out loss. `summary` gains the losses of every epoch of the network.

        Raises:
            CallOrderError: If no simulations were appended, or there is nothing to
                resume.
            OSError: If the checkpoint cannot be written.
            TypeError: If an argument has the wrong type.
            ValueError: If there are too few simulations for a batch of two in both
                parts, they have another shape than those fitted to before, or the
                checkpoint is of another call.

        Warns:
            CheckpointWarning: If a later checkpoint cannot be written.
            TimeLimitWarning: If `time_limit` ended a fit that had hardly begun.
            TuningWarning: If something could not be tuned.
            UserWarning: If `max_num_epochs` ended the training.
        """
        _check_loss_arguments(loss_kwargs)
        if training_batch_size is not None:
            training_batch_size = check_positive_int(
                "training_batch_size", training_batch_size
            )
        return fit_stored(
            self,
            TrainingSettings(
                training_batch_size, learning_rate, clip_max_norm, time_limit
            ),
            Checkpoints(checkpoint, checkpoint_every, resume),
            validation_fraction=validation_fraction,
            stop_after_epochs=stop_after_epochs,
            max_num_epochs=max_num_epochs,
            resume_training=resume_training,
            discard_prior_samples=discard_prior_samples,
            retrain_from_scratch=retrain_from_scratch,
            show_train_summary=show_train_summary,
            dataloader_kwargs=dataloader_kwargs,
            seed=seed,
            tune=tune,
        )

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Save the trainer as JSON and safetensors, for `load`.

        What is kept is what it was given, its estimator with all that was fitted for
        it, the summary, and the simulations: those in memory are written beside, of a
        store the path is. Optimisers live as long as a call that trains; of a call in
        progress they are in its checkpoint.

        Args:
            folder: Where to; made if needed. Another saved trainer there is replaced.

        Returns:
            The folder.

        Raises:
            NotADirectoryError: If it is something else already.
            OSError: If it cannot be written to; an earlier trainer is as it was then.
            ValueError: If it holds files of these names that are no saved trainer.

        Warns:
            UnsavedPriorWarning: If JSON cannot hold the prior.
        """
        return save_trainer(self, folder)

    @classmethod
    @generators_kept()
    @torch.inference_mode(False)
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        prior: Distribution | None = None,
        classifier: str | ConditionalEstimatorBuilder[RatioEstimator] | None = None,
        base: Any = None,
        embedding_net_x: nn.Module | None = None,
        device: str = "cpu",
        show_progress_bars: bool = True,
    ) -> Self:
        """Read a trainer that `save` wrote; nothing in the files is executed.

        Args:
            folder: Where from.
            prior: The prior, where JSON could not hold it.
            classifier: The builder of the network, where it was your own.
            base: The density, where one that sbi has trained was given.
            embedding_net_x: The net of the data, where one was given, of any weights.
            device: Where to train.
            show_progress_bars: Whether to show progress while training.

        Returns:
            The trainer, which goes on as the one that was saved would have.

        Raises:
            FileNotFoundError: If the folder holds no saved trainer, or a store that it
                refers to is gone.
            ValueError: If a file is damaged, the files are not of one save, something
                must be given again, or the device does not work.
        """
        given = {
            "prior": prior,
            "classifier": classifier,
            "base": base,
            "embedding_net_x": embedding_net_x,
            "device": check_device("device", device),
            "show_progress_bars": show_progress_bars,
        }
        trainer: Self = load_trainer(cls, folder, given)
        return trainer


def _check_loss_arguments(loss_kwargs: object) -> None:
    """Raise unless sbi would take the arguments of its loss too."""
    if not isinstance(loss_kwargs, LossArgsNRE_A | None):
        raise TypeError(
            "`loss_kwargs` must be LossArgsNRE_A or None, got "
            f"{type(loss_kwargs).__name__}. It is not used; leave it out."
        )
