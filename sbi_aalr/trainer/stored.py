"""Fit to stored simulations: sbi's interface, the loop and losses of AALR."""

import warnings
from typing import Any

import torch
from sbi.inference.trainers._contracts import StartIndexContext
from sbi.neural_nets.ratio_estimators import RatioEstimator
from tqdm.auto import tqdm

from sbi_aalr.checks import check_fraction, check_positive_int, check_split
from sbi_aalr.errors import CallOrderError
from sbi_aalr.seeding import seeded
from sbi_aalr.trainer.fitting import (
    begin_anew,
    fit_by_recipe,
    get_loss,
    keep_estimator_if_failing,
)
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.classifiers import check_fits
from sbi_aalr.training.passes import StoredPasses
from sbi_aalr.training.recipe import TrainingSettings, choose_recipe, find_entry

# sbi's default of `max_num_epochs`.
NO_LIMIT = 2**31 - 1


def fit_stored(
    trainer: SbiTrainer,
    settings: TrainingSettings,
    *,
    validation_fraction: float,
    stop_after_epochs: int,
    max_num_epochs: int,
    resume_training: bool,
    discard_prior_samples: bool,
    retrain_from_scratch: bool,
    show_train_summary: bool,
    dataloader_kwargs: dict[str, Any] | None,
    seed: int | None,
) -> RatioEstimator:
    """Fit the trainer's estimator to its stored simulations; see `AALR.train`.

    Args:
        trainer: Whose estimator to fit, to simulations appended before.
        settings: What the user set.
        validation_fraction: Share of the simulations held out for early stopping.
        stop_after_epochs: Epochs without improvement after which to stop.
        max_num_epochs: Most epochs to train for; `NO_LIMIT` for no limit.
        resume_training: Hold out the same rows as in the last call.
        discard_prior_samples: Leave out round 0 in later rounds.
        retrain_from_scratch: Begin with new weights.
        show_train_summary: Print sbi's summary after training.
        dataloader_kwargs: Passed on to torch's data loaders.
        seed: Makes the run repeatable.

    Returns:
        The fitted estimator.
    """
    if not trainer._theta_roundwise:
        raise CallOrderError(
            "There are no simulations to train on. Call "
            "`append_simulations(theta, x)` first, or `train_online(simulator)`."
        )
    if resume_training and not hasattr(trainer, "train_indices"):
        raise CallOrderError(
            "There is no training to resume. Call `train` without "
            "`resume_training` first."
        )
    check_positive_int("max_num_epochs", max_num_epochs)
    check_positive_int("stop_after_epochs", stop_after_epochs)
    check_fraction("validation_fraction", validation_fraction)
    first_round = trainer._get_start_index(StartIndexContext(discard_prior_samples))
    theta, x, _ = trainer.get_simulations(first_round)
    begins = trainer._neural_net is None or retrain_from_scratch
    if not begins:
        check_fits(trainer._neural_net, theta, x)
    with seeded(seed), keep_estimator_if_failing(trainer):
        if not resume_training:
            _split(trainer, len(theta), validation_fraction)
        rows = trainer.train_indices
        entry = find_entry(len(rows), settings.time_limit)
        if begins:
            begin_anew(trainer, theta[rows], x[rows], entry)
        recipe = choose_recipe(
            entry,
            len(rows),
            settings,
            is_separable=get_loss(trainer).num_contrasts is None,
            is_streamed=False,
            most_passes=None if max_num_epochs == NO_LIMIT else max_num_epochs,
        )
        check_split(len(theta), validation_fraction, recipe.batch_size)
        training, validation = trainer.get_dataloaders(
            first_round,
            recipe.batch_size,
            validation_fraction,
            # The rows are split already.
            resume_training=True,
            dataloader_kwargs=dataloader_kwargs,
        )
        device = trainer._device
        history = fit_by_recipe(
            trainer,
            StoredPasses(training, len(rows), device),
            recipe,
            settings,
            held_out=StoredPasses(validation, len(trainer.val_indices), device),
            stop_after=stop_after_epochs,
        )
    trainer._record(
        {
            "training_loss": history.pass_losses,
            "validation_loss": history.validation_losses,
            "epoch_durations_sec": history.pass_seconds,
            "epochs_trained": [len(history.pass_losses)],
            "best_validation_loss": [min(history.validation_losses)],
            "fit_seconds": [history.seconds],
        }
    )
    if show_train_summary:
        tqdm.write(trainer._describe_round(trainer._round, trainer.summary))
    if history.is_finished and recipe.num_passes == max_num_epochs:
        warnings.warn(
            f"Maximum number of epochs `max_num_epochs={max_num_epochs}` reached, "
            "but network has not yet fully converged. Consider increasing it.",
            # Past `AALR.train`, to whoever called it.
            stacklevel=3,
        )
    return trainer._neural_net


def _split(trainer: SbiTrainer, num_rows: int, validation_fraction: float) -> None:
    """Choose the rows to train on and those to hold out, as sbi does."""
    num_training = int((1 - validation_fraction) * num_rows)
    order = torch.randperm(num_rows)
    trainer.train_indices, trainer.val_indices = order.split(
        (num_training, num_rows - num_training)
    )
