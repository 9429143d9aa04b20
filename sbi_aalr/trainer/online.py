"""Fit while simulating: Algorithm 1, and further passes over its simulations.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch.distributions import Distribution

from sbi_aalr.checks import check_positive_int
from sbi_aalr.errors import CallOrderError
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import prepare
from sbi_aalr.simulation.batches import Batch, divide, simulate, stream
from sbi_aalr.trainer.fitting import (
    begin_anew,
    fit_by_recipe,
    get_loss,
    keep_estimator_if_failing,
)
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.classifiers import check_fits
from sbi_aalr.training.passes import StreamedPasses
from sbi_aalr.training.recipe import Recipe, TrainingSettings, choose_recipe, find_entry
from sbi_aalr.types import Simulator

# Enough rows for the quantiles that the inputs are scaled by, and to tell passes apart.
_OPENING_ROWS = 1024
# Share of a small budget that is held out where there are several passes.
_HELD_OUT_SHARE = 0.1


def fit_online(
    trainer: SbiTrainer,
    simulator: Callable[..., Any],
    num_simulations: int,
    settings: TrainingSettings,
    *,
    num_passes: int | None,
    retrain_from_scratch: bool,
    seed: int | None,
) -> RatioEstimator:
    """Fit the trainer's estimator while simulating; see `AALR.train_online`.

    The first simulations, the opening, are made at once: a new network is scaled by
    them, and held-out ones are taken from them. The others are made batch by batch.

    Args:
        trainer: Whose estimator to fit.
        simulator: Any simulator that sbi accepts.
        num_simulations: Budget, in simulations.
        settings: What the user set.
        num_passes: How often each simulation is used; None leaves it to the recipe.
        retrain_from_scratch: Begin with new weights.
        seed: Makes the run repeatable.

    Returns:
        The fitted estimator.
    """
    if not callable(simulator):
        raise TypeError(
            f"`simulator` must be callable, got {type(simulator).__name__}."
        )
    check_positive_int("num_simulations", num_simulations)
    if num_passes is not None:
        check_positive_int("num_passes", num_passes)
    if trainer._prior is None:
        raise CallOrderError(
            "Algorithm 1 draws from the prior. Give it at the start: `AALR(prior)`."
        )
    begins = trainer._neural_net is None or retrain_from_scratch
    with seeded(seed), keep_estimator_if_failing(trainer):
        batched, prior = prepare(simulator, trainer._prior)
        opening = _simulate_opening(batched, prior, num_simulations)
        entry = find_entry(num_simulations, settings.time_limit)
        if begins:
            begin_anew(trainer, opening.theta, opening.x, entry)
        else:
            check_fits(trainer._neural_net, opening.theta, opening.x)
        num_contrasts = get_loss(trainer).num_contrasts
        recipe = choose_recipe(
            entry,
            num_simulations,
            settings,
            is_separable=num_contrasts is None,
            is_streamed=True,
            num_passes=num_passes,
        )
        num_held_out = _count_held_out(num_simulations, recipe, num_contrasts or 1)
        held_out = opening.take(slice(num_held_out))
        first = divide(opening.take(slice(num_held_out, None)), recipe.batch_size)
        num_fresh = num_simulations - len(opening.theta)
        fresh = stream(batched, prior, num_fresh, recipe.batch_size)
        passes = StreamedPasses(
            chain(first, fresh),
            num_simulations - num_held_out,
            recipe.batch_size,
            prior,
            is_single=recipe.num_passes == 1,
        )
        parts = list(divide(held_out, recipe.batch_size, num_contrasts or 1))
        history = fit_by_recipe(
            trainer, passes, recipe, settings, held_out=parts or None
        )
    trainer._record(
        {
            "training_loss": history.losses,
            "learning_rate": history.learning_rates,
            "validation_loss": history.validation_losses,
            "fit_seconds": [history.seconds],
        }
    )
    return trainer._neural_net


def _simulate_opening(
    simulator: Simulator, prior: Distribution, num_simulations: int
) -> Batch:
    rows = min(num_simulations, _OPENING_ROWS)
    theta, theta_prime = prior.sample((rows,)), prior.sample((rows,))
    return Batch(theta, theta_prime, simulate(simulator, theta).to(theta.device))


def _count_held_out(num_simulations: int, recipe: Recipe, num_contrasts: int) -> int:
    """How many simulations of the opening to hold out: none where all are fresh."""
    rows = int(_HELD_OUT_SHARE * num_simulations)
    if recipe.num_passes == 1 or rows < 2:
        return 0
    # Fewer would not have as many contrasts.
    return min(max(rows, num_contrasts), _OPENING_ROWS)
