"""Fit to stored simulations: sbi's interface, the loop and losses of AALR."""

import math
import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from sbi.inference.trainers._contracts import StartIndexContext
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from tqdm.auto import tqdm

from sbi_aalr.checks import check_bool, check_fraction, check_positive_int
from sbi_aalr.errors import CallOrderError
from sbi_aalr.trainer.begin import uses_base
from sbi_aalr.trainer.checkpoints import Checkpoints
from sbi_aalr.trainer.fitting import (
    begin_anew,
    describe_end,
    fit_by_recipe,
    fitting,
    get_loss,
    has_to_begin,
)
from sbi_aalr.trainer.identity import hash_simulations, identify
from sbi_aalr.trainer.journal import Journal, open_journal
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.simulations import measure_validity, shuffle_rows, take_first
from sbi_aalr.trainer.stacking import Source
from sbi_aalr.trainer.structures import fit_structures
from sbi_aalr.trainer.theta_check import check_theta
from sbi_aalr.trainer.tuned import make_tuner, read_attempts, record_tuning
from sbi_aalr.training.classifiers import check_fits
from sbi_aalr.training.passes import StoredPasses
from sbi_aalr.training.recipe import TrainingSettings, choose_recipe, find_entry

# sbi's default of `max_num_epochs`.
NO_LIMIT = 2**31 - 1


def fit_stored(
    trainer: SbiTrainer,
    settings: TrainingSettings,
    checkpoints: Checkpoints,
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
    tune: bool | str | Iterable[str],
) -> RatioEstimator:
    """Fit the trainer's estimator to its stored simulations; see `AALR.train`.

    Args:
        trainer: Whose estimator to fit, to simulations appended before.
        settings: What the user set.
        checkpoints: Whether to keep how far it came, and where.
        validation_fraction: Share of the simulations held out for early stopping.
        stop_after_epochs: Epochs without improvement after which to stop.
        max_num_epochs: Most epochs to train for; `NO_LIMIT` for no limit.
        resume_training: Hold out the same rows as in the last call.
        discard_prior_samples: Leave out round 0 in later rounds.
        retrain_from_scratch: Begin with new weights.
        show_train_summary: Print sbi's summary after training.
        dataloader_kwargs: Passed on to torch's data loaders.
        seed: Makes the run repeatable.
        tune: Names of hyperparameters to tune, True for the usual, False for none.

    Returns:
        The fitted estimator.
    """
    for name, value in (
        ("resume_training", resume_training),
        ("discard_prior_samples", discard_prior_samples),
        ("retrain_from_scratch", retrain_from_scratch),
        ("show_train_summary", show_train_summary),
    ):
        check_bool(name, value)
    if not trainer._theta_roundwise:
        raise CallOrderError(
            "There are no simulations to train on. Call "
            "`append_simulations(theta, x)` first, or `train_online(simulator)`."
        )
    if resume_training and trainer._split is None:
        raise CallOrderError(
            "There is no training to resume. Call `train` without "
            "`resume_training` first."
        )
    max_num_epochs = check_positive_int("max_num_epochs", max_num_epochs)
    stop_after_epochs = check_positive_int("stop_after_epochs", stop_after_epochs)
    validation_fraction = check_fraction("validation_fraction", validation_fraction)
    attempts = read_attempts(tune, checkpoints)
    first_round = trainer._get_start_index(StartIndexContext(discard_prior_samples))
    with open_journal(checkpoints) as journal, fitting(trainer, seed):
        started = time.perf_counter() - journal.seconds
        theta, x, _ = trainer.get_simulations(first_round)
        if journal.is_kept:
            identify(
                journal,
                trainer,
                "train",
                settings,
                simulations=hash_simulations(theta, x),
                validation_fraction=validation_fraction,
                stop_after_epochs=stop_after_epochs,
                max_num_epochs=max_num_epochs,
                resume_training=resume_training,
                retrain_from_scratch=retrain_from_scratch,
                dataloader_kwargs=sorted(dataloader_kwargs or {}),
                seed=seed,
            )
        trainer._validity = measure_validity(trainer)
        begins = journal.note("begins", has_to_begin(trainer, retrain_from_scratch))
        if not begins:
            check_fits(trainer._neural_net, theta, x)
        known = _recall_split(journal) or (resume_training and trainer._split)
        split_rows(trainer, first_round, validation_fraction, known or None)
        _keep_split(journal, trainer)
        rows = trainer.train_indices
        smallest = min(len(rows), len(trainer.val_indices))
        _check_parts(smallest, 2, len(theta), validation_fraction)
        entry = find_entry(len(rows), settings.time_limit)
        if begins:
            begin_anew(trainer, *take_first(theta, x, rows), entry, len(rows))
        num_contrasts = get_loss(trainer).num_contrasts
        recipe = choose_recipe(
            entry,
            len(rows),
            settings,
            is_separable=num_contrasts is None,
            is_streamed=False,
            most_passes=None if max_num_epochs == NO_LIMIT else max_num_epochs,
        )
        least_rows = (num_contrasts or 1) + 1
        _check_parts(smallest, least_rows, len(theta), validation_fraction)
        if recipe.batch_size < least_rows:
            raise ValueError(
                f"`training_batch_size` must be at least {least_rows}, got "
                f"{recipe.batch_size}. The contrasts of each row are other rows of its "
                "batch."
            )
        device = trainer._device

        def load(batch_size: int) -> tuple[StoredPasses, StoredPasses]:
            training, validation = trainer.get_dataloaders(
                first_round,
                batch_size,
                validation_fraction,
                # The rows are split already.
                resume_training=True,
                dataloader_kwargs=dataloader_kwargs,
            )
            return (
                StoredPasses(training, len(rows), device),
                StoredPasses(validation, len(trainer.val_indices), device),
            )

        def take(indices: Tensor) -> tuple[Tensor, Tensor]:
            some, data = take_first(theta, x, indices)
            return some.to(device), data.to(device)

        journal.tuner = make_tuner(
            trainer, attempts, lambda: take(rows), goes_on=not begins
        )
        if uses_base(trainer):
            history = fit_structures(
                trainer,
                Source(
                    load,
                    lambda: take(rows),
                    lambda: take(trainer.val_indices),
                    check_theta(trainer, theta),
                ),
                recipe,
                settings,
                journal,
                started=started,
                stop_after=stop_after_epochs,
                most_passes=None if max_num_epochs == NO_LIMIT else max_num_epochs,
            )
        else:
            passes, held_out = load(recipe.batch_size)
            history = fit_by_recipe(
                trainer,
                passes,
                recipe,
                settings,
                journal,
                started=started,
                held_out=held_out,
                stop_after=stop_after_epochs,
            )
    record_tuning(trainer, journal.tuner, started)
    trainer._record(
        {
            "training_loss": history.pass_losses,
            "validation_loss": history.validation_losses,
            "epoch_durations_sec": history.pass_seconds,
            "epochs_trained": [len(history.pass_losses)],
            "best_validation_loss": [min(history.validation_losses, default=math.nan)],
            **describe_end(history),
        }
    )
    history.raise_interruption()
    if show_train_summary:
        tqdm.write(trainer._describe_round(trainer._round, trainer.summary))
    if history.is_finished and len(history.pass_losses) == max_num_epochs:
        warnings.warn(
            f"Maximum number of epochs `max_num_epochs={max_num_epochs}` reached, "
            "but network has not yet fully converged. Consider increasing it.",
            # Past `AALR.train`, to whoever called it.
            stacklevel=3,
        )
    return trainer._neural_net


def split_rows(
    trainer: SbiTrainer,
    first_round: int,
    validation_fraction: float,
    known: tuple[Tensor, ...] | None,
) -> None:
    """Choose the rows to train on and those to hold out, as sbi does.

    A trainer that resumes keeps to its choice for the rows it knows, and holds out the
    same share of those that were appended since.

    Args:
        trainer: Whose `train_indices` and `val_indices` to set, which count the rows
            from `first_round` on.
        first_round: Round of the first rows to use.
        validation_fraction: Share of the rows to hold out.
        known: An earlier choice to keep to, as `_split` has it; None for none.
    """
    rounds = [
        torch.full((len(theta),), number)
        for theta, number in zip(
            trainer._theta_roundwise, trainer._data_round_index, strict=True
        )
    ]
    is_used = torch.cat(rounds) >= first_round
    nothing = torch.tensor([], dtype=torch.long)
    known = known or (nothing, nothing)
    is_new = is_used.clone()
    is_new[torch.cat(known)] = False
    fresh = is_new.nonzero().squeeze(1)
    if len(fresh):
        fresh = shuffle_rows(fresh, trainer._x_roundwise)
    num_training = int((1 - validation_fraction) * len(fresh))
    parts = fresh.split((num_training, len(fresh) - num_training))
    trainer._split = tuple(
        torch.cat((old, new)) for old, new in zip(known, parts, strict=True)
    )
    # Rows of all rounds are known by their place among all, sbi's by that among the
    # rounds that are used.
    place = is_used.cumsum(0) - 1
    trainer.train_indices, trainer.val_indices = (
        place[rows[is_used[rows]]] for rows in trainer._split
    )


def _recall_split(journal: Journal) -> tuple[Tensor, ...] | None:
    """The rows that were chosen when the call was begun; None if it begins now."""
    kept = journal.recall_opening()
    return None if kept is None else (kept["training"], kept["held_out"])


def _keep_split(journal: Journal, trainer: SbiTrainer) -> None:
    training, held_out = trainer._split or ()
    journal.keep_opening({"training": training, "held_out": held_out})


def _check_parts(
    smallest: int, least_rows: int, num_rows: int, validation_fraction: float
) -> None:
    """Raise if the training or the validation part has too few rows."""
    if smallest < least_rows:
        remedy = "Simulate more."
        if least_rows > 2:
            remedy = "Simulate more, or lower `num_contrasts` of the loss."
        raise ValueError(
            "`append_simulations` must be given enough rows for "
            f"{least_rows} in both the training and the validation part, got "
            f"{num_rows} with `validation_fraction` = {validation_fraction}. {remedy}"
        )
