"""What all ways to fit do with the trainer: change its estimator, and write that down.

The estimator, the summary and what the user gave at the start live in the trainer,
most of them in attributes that sbi named.
"""

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks import is_separable
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.trainer.begin import begin_network, begin_structures, uses_base
from sbi_aalr.trainer.journal import Journal
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.history import History, raise_too_short, warn_of_hurry
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ratio_loss import RatioLoss, choose_loss
from sbi_aalr.training.recipe import Entry, Recipe, TrainingSettings

# What a fit changes, other than the summary, which is written at its end.
_STATE = (
    "_neural_net",
    "_structures",
    "_truncated_prior",
    "_split",
    "_validity",
    "train_indices",
    "val_indices",
)


@contextlib.contextmanager
def fitting(trainer: SbiTrainer, seed: int | None) -> Iterator[None]:
    """Seed, and go on with a copy of the estimator; bring the old one back if it fails.

    Training needs gradients, also where it is called inside `torch.no_grad` or
    `torch.inference_mode`.
    """
    _set_up_optimizers()
    before = {name: getattr(trainer, name) for name in _STATE if hasattr(trainer, name)}
    with seeded(seed), torch.inference_mode(False), torch.enable_grad():
        # Together, as a stack shares the structures' weights.
        trainer._neural_net, trainer._structures = deepcopy(
            (trainer._neural_net, trainer._structures)
        )
        try:
            yield
        except BaseException:
            for name in _STATE:
                trainer.__dict__.pop(name, None)
            trainer.__dict__.update(before)
            raise


@functools.cache
def _set_up_optimizers() -> None:
    """Let torch load what its first optimizer needs, before any limit runs.

    That takes seconds, once in a process.
    """
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])


def has_to_begin(trainer: SbiTrainer, retrain_from_scratch: bool) -> bool:
    """Whether there is no estimator that could be trained further.

    One for a prior that was cut has inputs scaled to what was left of it.
    """
    is_new = trainer._neural_net is None or trainer._truncated_prior is not None
    has_other = uses_base(trainer) != (trainer._structures is not None)
    return is_new or retrain_from_scratch or has_other


def begin_anew(
    trainer: SbiTrainer, theta: Tensor, x: Tensor, entry: Entry, num_simulations: int
) -> None:
    """Give the trainer a new network, built from first rows as the recipe says."""
    if uses_base(trainer):
        begin_structures(trainer, theta, x, entry, num_simulations)
        return
    trainer._neural_net = begin_network(trainer, theta, x, entry)


def get_loss(trainer: SbiTrainer) -> RatioLoss:
    """The loss that the user chose, or the one that suits the network."""
    if uses_base(trainer):
        return RatioLoss()
    return trainer._ratio_loss or choose_loss(trainer._neural_net)


def fit_by_recipe(
    trainer: SbiTrainer,
    passes: Passes,
    recipe: Recipe,
    settings: TrainingSettings,
    journal: Journal,
    *,
    started: float,
    held_out: Iterable[Batch] | None,
    stop_after: int | None = None,
) -> History:
    """Fit the trainer's estimator, and write what was chosen into its summary.

    Args:
        trainer: Whose estimator to fit.
        passes: Where batches come from.
        recipe: How to train.
        settings: Whose limits of the gradient and of time hold.
        journal: Where it is written down.
        started: When the time began to run, by `time.perf_counter`.
        held_out: Batches to choose the best pass by; None to take the last.
        stop_after: Passes without a better held-out loss after which to end.

    Returns:
        The history of the fit.

    Raises:
        ValueError: If the time was up before the first step.
    """
    estimator = trainer._neural_net.to(trainer._device)
    loss = get_loss(trainer)
    trainer._truncated_prior = None
    time_limit = settings.time_limit
    if time_limit is not None:
        time_limit = max(1e-9, time_limit - (time.perf_counter() - started))
    journal.begin([estimator])
    history = journal.recall(0) or journal.fit(
        0,
        passes,
        recipe=recipe,
        loss=loss,
        clip_max_norm=settings.clip_max_norm,
        time_limit=time_limit,
        held_out=held_out,
        stop_after=stop_after,
        show_progress_bars=trainer._show_progress_bars,
    )
    if not history.losses:
        raise_too_short(settings.time_limit)
    describe_fit(trainer, passes.num_simulations, recipe)
    warn_of_hurry([history], settings.time_limit)
    return history


def describe_fit(trainer: SbiTrainer, num_simulations: int, recipe: Recipe) -> None:
    """Write into the summary what was chosen for a single network.

    Args:
        trainer: Whose network.
        num_simulations: Simulations that it was trained on.
        recipe: How it was trained.
    """
    chosen = {
        **_describe_network(trainer._neural_net),
        "num_simulations": num_simulations,
        **recipe._asdict(),
        **vars(get_loss(trainer)),
    }
    trainer._summary.setdefault("recipe", []).append(chosen)
    trainer._tracker.log_params(chosen)


def describe_end(history: History) -> dict[str, list[float]]:
    """What every way to fit writes into the summary about how a fit ended."""
    return {
        "fit_seconds": [history.seconds],
        "interrupted": [history.interruption is not None],
    }


def describe_steps(history: History) -> dict[str, list[float]]:
    """What a fit while simulating writes into the summary."""
    return {
        "training_loss": history.losses,
        "learning_rate": history.learning_rates,
        "validation_loss": history.validation_losses,
        **describe_end(history),
    }


def _describe_network(estimator: RatioEstimator) -> dict[str, Any]:
    return {
        "classifier": getattr(estimator, "classifier_name", None),
        "classifier_settings": getattr(estimator, "classifier_settings", None),
        "is_separable": is_separable(estimator),
        "num_weights": sum(p.numel() for p in estimator.parameters()),
    }
