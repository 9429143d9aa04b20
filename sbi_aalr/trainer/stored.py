"""Training on stored simulations: sbi's interface, the loop and losses of AALR."""

import warnings
from typing import Any, Self

import torch
from sbi.inference.trainers._contracts import LossArgsNRE_A
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from tqdm.auto import tqdm

from sbi_aalr.checks import (
    check_fraction,
    check_non_negative_int,
    check_positive_int,
    check_simulations,
    check_split,
)
from sbi_aalr.errors import CallOrderError
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.trainer.base import BaseTrainer, check_training
from sbi_aalr.training.loaders import TensorLoader
from sbi_aalr.training.loop import History
from sbi_aalr.training.passes import StoredPasses
from sbi_aalr.training.recipe import Recipe

# sbi's default, which stands for no limit.
_NO_LIMIT = 2**31 - 1


class StoredTrainer(BaseTrainer):
    """The part of `AALR` that trains on simulations made before."""

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
        training_batch_size: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.1,
        stop_after_epochs: int = 20,
        max_num_epochs: int = _NO_LIMIT,
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
            resume_training: Go on from the weights of the last call, with the same
                rows held out, and with a learning rate that falls anew.
            discard_prior_samples: Leave out round 0 in later rounds.
            retrain_from_scratch: Begin with new weights.
            show_train_summary: Print sbi's summary after training.
            dataloader_kwargs: Passed on to torch's data loaders.
            loss_kwargs: sbi's arguments of the loss, which are not used; see the
                trainer's `loss`.
            seed: Makes the run repeatable; the global generators are left untouched.
            time_limit: Seconds after which to end. The learning rate has come down by
                then; without `max_num_epochs`, there are as many epochs as fit.

        Returns:
            The fitted ratio estimator: averaged weights, of the epoch with the least
            held-out loss. `summary` gains the losses of every epoch.

        Raises:
            CallOrderError: If no simulations were appended, or there is nothing to
                resume.
            ValueError: If there are too few simulations for a batch of two in both the
                training and the validation part, or they have another shape than those
                the estimator was fitted to before.

        Warns:
            UserWarning: If `max_num_epochs` ended the training.
        """
        if not self._theta_roundwise:
            raise CallOrderError(
                "There are no simulations to train on. Call "
                "`append_simulations(theta, x)` first, or `train_online(simulator)`."
            )
        if resume_training and not hasattr(self, "train_indices"):
            raise CallOrderError(
                "There is no training to resume. Call `train` without "
                "`resume_training` first."
            )
        check_training(training_batch_size, learning_rate, clip_max_norm, time_limit)
        check_positive_int("max_num_epochs", max_num_epochs)
        check_positive_int("stop_after_epochs", stop_after_epochs)
        self._round = max(self._data_round_index)
        first_round = int(discard_prior_samples and self._round > 0)
        theta, x, _ = self.get_simulations(first_round)
        check_fraction("validation_fraction", validation_fraction)
        if not retrain_from_scratch:
            self._check_fits(theta, x)
        begins = self._neural_net is None or retrain_from_scratch
        with seeded(seed), self._keep_estimator_if_failing():
            if not resume_training:
                self._split(len(theta), validation_fraction)
            rows = self.train_indices
            if begins:
                first = theta[rows].cpu(), x[rows].cpu()
                self._build(*first, len(rows), time_limit)
            recipe = self._choose_recipe(
                len(rows), time_limit, False, training_batch_size, learning_rate
            )
            check_split(len(theta), validation_fraction, recipe.batch_size)
            recipe = _limit_passes(recipe, max_num_epochs, time_limit)
            training, validation = self.get_dataloaders(
                first_round,
                recipe.batch_size,
                validation_fraction,
                resume_training=True,
                dataloader_kwargs=dataloader_kwargs,
            )
            held_out = StoredPasses(validation, len(self.val_indices), self._device)
            history = self._fit(
                StoredPasses(training, len(rows), self._device),
                recipe,
                clip_max_norm=clip_max_norm,
                time_limit=time_limit,
                validate=lambda: self._measure_loss(held_out.open(0)),
                stop_after=stop_after_epochs,
            )
        self._write_epochs(history)
        if show_train_summary:
            tqdm.write(self._describe_round(self._round, self._summary))
        if history.is_finished and recipe.num_passes == max_num_epochs:
            warnings.warn(
                f"Maximum number of epochs `max_num_epochs={max_num_epochs}` reached, "
                "but network has not yet fully converged. Consider increasing it.",
                stacklevel=2,
            )
        return self._neural_net

    def _split(self, num_rows: int, validation_fraction: float) -> None:
        """Choose the rows to train on and those to hold out, as sbi does."""
        order = torch.randperm(num_rows)
        num_training = int((1 - validation_fraction) * num_rows)
        self.train_indices, self.val_indices = order.split(
            (num_training, num_rows - num_training)
        )

    def _write_epochs(self, history: History) -> None:
        """Add what sbi writes about a training to the summary."""
        self._record(
            {
                "training_loss": history.pass_losses,
                "validation_loss": history.validation_losses,
                "epoch_durations_sec": history.pass_seconds,
                "epochs_trained": [len(history.pass_losses)],
                "best_validation_loss": [min(history.validation_losses)],
                "fit_seconds": [history.seconds],
            }
        )

    def get_dataloaders(
        self,
        starting_round: int = 0,
        training_batch_size: int = 200,
        validation_fraction: float = 0.1,
        resume_training: bool = False,
        dataloader_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Return sbi's loaders, or faster ones unless `dataloader_kwargs` are given."""
        loaders = super().get_dataloaders(
            starting_round,
            training_batch_size,
            validation_fraction,
            resume_training,
            dataloader_kwargs,
        )
        if dataloader_kwargs is not None:
            return loaders
        tensors = loaders[0].dataset.tensors
        return (
            TensorLoader(tensors, self.train_indices, loaders[0].batch_size),
            TensorLoader(tensors, self.val_indices, loaders[1].batch_size, False),
        )

    def _loss(self, theta: Tensor, x: Tensor, num_atoms: int) -> Tensor:
        """Loss of each pair in a batch of stored simulations, shape `(N,)`."""
        return self._get_loss().of_batch(self._neural_net, Batch(theta, None, x))


def _limit_passes(
    recipe: Recipe, max_num_epochs: int, time_limit: float | None
) -> Recipe:
    """At most `max_num_epochs`; as many as fit if there is nothing but a time limit."""
    wanted = None if time_limit is not None else recipe.num_passes
    if wanted is None or wanted > max_num_epochs:
        wanted = None if max_num_epochs == _NO_LIMIT else max_num_epochs
    return recipe._replace(num_passes=wanted)
