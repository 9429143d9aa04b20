"""What `AALR.train(tune=...)` tunes, and what the summary says of it."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sbi_aalr.errors import TuningWarning
from sbi_aalr.trainer.checkpoints import Checkpoints
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.tuned import Tuner
from sbi_aalr.training.tuning_search import check_enough
from sbi_aalr.tuning.ratio import can_tune, check_names

# What `tune=True` means, wherever a network has such a thing: the first, and where that
# is not clearly better than the plain fit, the second. All at once were no better.
DEFAULT_ATTEMPTS = (("weight_decay", "octaves"), ("dropout",))


def make_tuner(
    trainer: SbiTrainer,
    attempts: Sequence[Sequence[str]],
    take_rows: Callable[[], tuple[Tensor, Tensor]],
    goes_on: bool,
) -> Tuner | None:
    """Make what tunes a trainer's estimators while they are fitted.

    Args:
        trainer: Whose estimators are about to be fitted.
        attempts: Names of what to tune, and of what to tune where that is no better.
        take_rows: Gives the rows that are trained on.
        goes_on: Whether the estimators have been trained already.

    Returns:
        The tuner; None if nothing is to be tuned.

    Raises:
        ValueError: If no estimator has what a name tunes, or there are too few rows.

    Warns:
        TuningWarning: If what tunes has been trained on.
    """
    if not attempts:
        return None
    if goes_on:
        warnings.warn(
            TuningWarning(
                "Training goes on with weights that may have been trained on rows that "
                "tune now, so that their loss is too low and too little is penalised. "
                "Pass `retrain_from_scratch=True` to tune from new weights."
            ),
            stacklevel=2,
        )
    check_enough(len(trainer.train_indices))
    structures = trainer._structures or []
    estimators = [
        one.estimator
        for one in structures
        if one.member is None or one.member.recipe is not None
    ] or [trainer._neural_net]
    for name in attempts[0] if attempts is not DEFAULT_ATTEMPTS else ():
        if not any(can_tune(name, estimator) for estimator in estimators):
            raise ValueError(
                f"`tune` cannot have {name!r} here: no estimator that is trained has "
                "such a thing. Leave it out, or use the default network."
            )
    return Tuner(attempts, take_rows)


def read_attempts(tune: object, checkpoints: Checkpoints) -> Sequence[Sequence[str]]:
    """Return the names that `tune` stands for, one list after the other, or raise.

    Raises:
        TypeError: If it is neither a bool nor names.
        ValueError: If a name is unknown, or has no place in the training loss, or the
            call is to keep checkpoints.
    """
    if tune is False:
        return ()
    if checkpoints.folder is not None:
        raise ValueError(
            "`checkpoint` must be left out with `tune`, as a search cannot be gone on "
            f"with, got {checkpoints.folder!r}. Train without one of them."
        )
    if tune is True:
        return DEFAULT_ATTEMPTS
    names: Any = tune
    return (check_names(names),)


def record_tuning(trainer: SbiTrainer, tuner: Tuner | None, started: float) -> None:
    """Write into the trainer's summary what was tuned, and what it did.

    Args:
        trainer: Whose summary to write to.
        tuner: What tuned; None if nothing did.
        started: When the whole fit began, by `time.perf_counter`.
    """
    if tuner is None:
        return
    trainer._summary.setdefault("tuning", []).append(
        {
            "names": [name for names in tuner.attempts for name in names],
            "structures": tuner.reports,
            "is_kept": any(report["is_kept"] for report in tuner.reports),
            "seconds": time.perf_counter() - started,
            "plain_seconds": tuner.plain_seconds,
        }
    )
