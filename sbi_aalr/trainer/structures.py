"""The default recipe: fit several structures, and stack them by held-out loss.

Densities of both sides of Bayes' rule come first, closed forms and mixtures, and the
towers last, trained on Algorithm 1's pairs. The stack finds out which of them the
problem wants; those of no weight are dropped.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 1, for the pairs.
"""

import time
from collections.abc import Mapping
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator

from sbi_aalr.trainer.begin import correct_densities
from sbi_aalr.trainer.journal import Journal
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.stacking import (
    Source,
    Structure,
    describe_structures,
    keep_better,
    may_be_used,
    put_stack,
)
from sbi_aalr.training.density_loss import DensityLoss
from sbi_aalr.training.history import History, raise_too_short, warn_of_hurry
from sbi_aalr.training.passes import pass_over
from sbi_aalr.training.ranks import count_ranks
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe, TrainingSettings

# Passes without a better held-out loss after which a density is as good as it gets.
_PATIENCE = 12
# Of a time limit, what is kept for the stack: a share, and no more than these seconds.
_STACK_SHARE, _STACK_SECONDS = 0.5, 15.0
# What each fit gets in any case, on a machine where others are too busy.
_LEAST_SHARE = 0.02
# And for the last, where none has come to a step: on a busy machine that takes a while.
_LAST_SHARE = 0.25
# What the progress bar calls them; it has little room.
_TITLES = {
    "": "Network",
    "posterior_mixture": "Posterior density",
    "likelihood_mixture": "Data density",
}


def fit_structures(
    trainer: SbiTrainer,
    source: Source,
    recipe: Recipe,
    settings: TrainingSettings,
    journal: Journal,
    *,
    started: float,
    stop_after: int | None,
    most_passes: int | None,
) -> History:
    """Fit the trainer's structures and stack them.

    Args:
        trainer: Whose structures to fit.
        source: Where the simulations are.
        recipe: How the towers are trained.
        settings: What the user set.
        journal: Where it is written down.
        started: When the time began to run, by `time.perf_counter`.
        stop_after: Passes without a better held-out loss after which the towers end.
        most_passes: Passes after which each ends in any case.

    Returns:
        The history of the towers, or of the structure that was interrupted.
    """
    trainer._truncated_prior = None
    correct_densities(trainer)
    structures: list[Structure] = trainer._structures or []
    histories: list[History | None] = []
    history: History | None = None
    trained = [s for s in structures if s.member is None or s.member.recipe]
    left = len(trained)
    journal.begin([structure.estimator for structure in structures])
    for number, structure in enumerate(structures):
        own = choose_own_recipe(structure, recipe, settings, most_passes)
        if own is None or (history is not None and history.interruption is not None):
            histories.append(None)
            continue
        if (known := journal.recall(number)) is not None:
            history = known
            histories.append(history)
            left -= 1
            continue
        passes, held_out = source.open(own.batch_size)
        if trainer._cut_off is not None and structure.sees_all:
            pairs = source.training(), trainer._cut_off
            passes = pass_over(pairs, own.batch_size, trainer._device)
        limit = limit_time(settings, started, left)
        has_stepped = any(one and one.losses for one in histories)
        if limit is not None and left == 1 and not has_stepped:
            limit = max(limit, _LAST_SHARE * (settings.time_limit or 0.0))
        try:
            history = journal.fit(
                number,
                passes,
                recipe=own,
                time_limit=limit,
                held_out=held_out or None,
                **choose_fit(trainer, structure, settings, stop_after),
            )
        except KeyboardInterrupt as error:
            # Before the first step; what was fitted before is of use.
            if history is None:
                raise
            history = history._replace(interruption=error)
            histories.append(None)
            continue
        histories.append(history)
        left -= 1
    others = {} if journal.tuner is None else journal.tuner.others
    return finish_structures(
        trainer, source, histories, history, recipe, settings, started, others
    )


def limit_time(
    settings: TrainingSettings, started: float, num_fits: int
) -> float | None:
    """Seconds for one of so many fits that are still to come; None for no limit."""
    if settings.time_limit is None:
        return None
    kept = min(_STACK_SHARE * settings.time_limit, _STACK_SECONDS)
    spent = time.perf_counter() - started
    share = (settings.time_limit - kept - spent) / num_fits
    return max(_LEAST_SHARE * settings.time_limit, share)


def choose_fit(
    trainer: SbiTrainer,
    structure: Structure,
    settings: TrainingSettings,
    stop_after: int | None,
) -> dict[str, Any]:
    """How a structure is fitted, its recipe and its time aside; see `training.loop`."""
    is_tower = structure.member is None
    patience = _PATIENCE if stop_after is None else min(stop_after, _PATIENCE)
    return {
        "loss": RatioLoss() if is_tower else DensityLoss(),
        "clip_max_norm": settings.clip_max_norm,
        "stop_after": stop_after if is_tower else patience,
        "show_progress_bars": trainer._show_progress_bars,
        "name": _TITLES.get(structure.member.name if structure.member else "", ""),
    }


def finish_structures(
    trainer: SbiTrainer,
    source: Source,
    histories: list[History | None],
    history: History | None,
    recipe: Recipe,
    settings: TrainingSettings,
    started: float,
    others: Mapping[RatioEstimator, RatioEstimator],
) -> History:
    """Stack what has been fitted, and write down how it went.

    Args:
        trainer: Whose structures.
        source: Where the simulations are.
        histories: The history of each structure; None where there is none.
        history: The one that is to be told.
        recipe: How the towers were trained.
        settings: What the user set.
        started: When the time began to run, by `time.perf_counter`.
        others: Of an estimator that was fitted twice, the fit that was not kept, which
            the stack may use as well.

    Returns:
        `history`, with the interruption if there was one now.

    Raises:
        KeyboardInterrupt: If it came before anything of use had been fitted.
        ValueError: If the time was up before that.
    """
    structures: list[Structure] = trainer._structures or []
    if history is None or not any(h is not None and h.losses for h in histories):
        raise_too_short(settings.time_limit)
    fitted = keep_better(structures, histories)
    if not any(may_be_used(trainer, source, structure) for structure in fitted):
        history.raise_interruption()
        raise ValueError(
            "`time_limit` must be long enough to train the towers, without which these "
            f"simulations give nothing of use, got {settings.time_limit}. Give more "
            "seconds."
        )
    losers = [
        s._replace(estimator=others[s.estimator])
        for s in fitted
        if s.estimator in others
    ]
    offered = [*losers, *fitted]
    remaining = None
    if settings.time_limit is not None:
        remaining = settings.time_limit - (time.perf_counter() - started)
    try:
        assembled = put_stack(trainer, source, offered, remaining)
    except KeyboardInterrupt as error:
        trainer._neural_net, assembled = fitted[-1].estimator.eval(), None
        history = history._replace(interruption=error)
    describe_structures(trainer, offered, assembled, histories, recipe, started)
    warn_of_hurry(histories, settings.time_limit)
    return history


def choose_own_recipe(
    structure: Structure,
    recipe: Recipe,
    settings: TrainingSettings,
    most_passes: int | None,
) -> Recipe | None:
    """How a structure is trained; None for a closed form."""
    if structure.member is None:
        return recipe
    own = structure.member.recipe
    if own is None:
        return None
    limits = [n for n in (own.num_passes, most_passes) if n is not None]
    return own._replace(
        batch_size=(settings.batch_size or own.batch_size) // count_ranks(),
        learning_rate=settings.learning_rate or own.learning_rate,
        num_passes=min(limits, default=None),
    )
