"""Training on stored simulations: sbi's interface with the AALR loss on logits."""

from typing import Any, Self

import torch
from sbi.inference.trainers._contracts import LossArgsNRE_A
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr import online
from sbi_aalr.checks import (
    check_non_negative_int,
    check_row_shapes,
    check_simulations,
    check_split,
)
from sbi_aalr.errors import CallOrderError
from sbi_aalr.loaders import TensorLoader
from sbi_aalr.posterior_builder import PosteriorBuilder
from sbi_aalr.stream import Batch, seeded


class StoredTrainer(PosteriorBuilder):
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
            CallOrderError: If no simulations were appended, or there is nothing to
                resume.
            ValueError: If there are too few simulations for a batch of two in both the
                training and the validation part, or they have another shape than those
                the estimator was fitted to before.
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
        first_round = int(discard_prior_samples and max(self._data_round_index) > 0)
        theta, x, _ = self.get_simulations(first_round)
        check_split(theta.shape[0], validation_fraction, training_batch_size)
        if not retrain_from_scratch:
            self._check_fits(theta, x)
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
        training, validation = (
            TensorLoader(loader.dataset.tensors, indices, loader.batch_size)
            for loader, indices in zip(
                loaders, (self.train_indices, self.val_indices), strict=True
            )
        )
        return training, validation

    def _check_fits(self, theta: Tensor, x: Tensor) -> None:
        """Raise if the estimator to go on with takes rows of another shape."""
        if self._neural_net is not None:
            shapes = (self._neural_net.input_shape, self._neural_net.condition_shape)
            check_row_shapes(theta, x, shapes, "the estimator fitted before")

    def _loss(self, theta: Tensor, x: Tensor, num_atoms: int) -> Tensor:
        """Loss of each pair in a batch of stored simulations, shape `(N,)`.

        The batch is in random order, so another row's theta is a draw from the marginal
        that is independent of x. A shift by one or more never meets a row's own theta.
        """
        if theta.shape[0] < 2:
            raise ValueError(
                "A batch of stored simulations must have at least 2 rows, got "
                f"{theta.shape[0]}: each row's contrast is another row. Set `drop_last`"
                " in `dataloader_kwargs`."
            )
        shift = int(torch.randint(1, theta.shape[0], ()))
        batch = Batch(theta, theta.roll(shift, dims=0), x)
        return online.batch_loss(self._neural_net, batch)
