"""Fit while simulating: Algorithm 1, and further passes over its simulations.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 1.
"""

import time
from collections.abc import Callable
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator

from sbi_aalr.checks import check_bool, check_positive_int
from sbi_aalr.errors import CallOrderError
from sbi_aalr.simulation.adapt import prepare
from sbi_aalr.simulation.fill import name_simulator
from sbi_aalr.trainer.begin import uses_base
from sbi_aalr.trainer.checkpoints import Checkpoints
from sbi_aalr.trainer.fitting import (
    begin_anew,
    describe_steps,
    fit_by_recipe,
    fitting,
    get_loss,
    has_to_begin,
)
from sbi_aalr.trainer.identity import identify
from sbi_aalr.trainer.journal import open_journal
from sbi_aalr.trainer.opening import (
    check_rows,
    divide_simulations,
    keep_opening,
    recall_opening,
    simulate_opening,
)
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.shared import (
    check_shared,
    list_estimators,
    seed_of_rank,
    share_out,
)
from sbi_aalr.trainer.stacking import Source
from sbi_aalr.trainer.streamed import fit_streamed
from sbi_aalr.trainer.streaming import Streaming
from sbi_aalr.trainer.structures import fit_structures
from sbi_aalr.training.classifiers import check_fits
from sbi_aalr.training.passes import StreamedPasses, join_pairs
from sbi_aalr.training.ranks import (
    count_ranks,
    find_most,
    gather,
    share_weights,
    together,
)
from sbi_aalr.training.recipe import TrainingSettings, choose_recipe, find_entry


def fit_online(
    trainer: SbiTrainer,
    simulator: Callable[..., Any],
    num_simulations: int,
    settings: TrainingSettings,
    checkpoints: Checkpoints,
    streaming: Streaming,
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
        checkpoints: Whether to keep how far it came, and where.
        streaming: Where simulations are made and kept, where that is not here alone.
        num_passes: How often each simulation is used; None leaves it to the recipe.
        retrain_from_scratch: Begin with new weights.
        seed: Makes the run repeatable.

    Returns:
        The fitted estimator.
    """
    check_bool("retrain_from_scratch", retrain_from_scratch)
    num_simulations = check_positive_int("num_simulations", num_simulations)
    if num_passes is not None:
        num_passes = check_positive_int("num_passes", num_passes)
    if trainer._prior is None:
        raise CallOrderError(
            "Algorithm 1 draws from the prior. Give it at the start: `AALR(prior)`."
        )
    check_shared(checkpoints, streaming)
    if streaming.is_wanted:
        return fit_streamed(
            trainer,
            simulator,
            num_simulations,
            settings,
            checkpoints,
            streaming,
            num_passes=num_passes,
            retrain_from_scratch=retrain_from_scratch,
            seed=seed,
        )
    with (
        open_journal(checkpoints) as journal,
        together(),
        fitting(trainer, seed_of_rank(seed)),
    ):
        num_simulations = share_out(num_simulations)
        started = time.perf_counter() - journal.seconds
        batched, prior = prepare(simulator, trainer._prior)
        identify(
            journal,
            trainer,
            "train_online",
            settings,
            simulator=name_simulator(simulator),
            num_simulations=num_simulations,
            num_passes=num_passes,
            retrain_from_scratch=retrain_from_scratch,
            seed=seed,
        )
        opening = recall_opening(journal) or simulate_opening(
            batched,
            prior,
            num_simulations,
            trainer._ratio_loss.num_contrasts if trainer._ratio_loss else None,
            settings.time_limit,
        )
        trainer._validity = None
        theta, _, x = opening.batch
        if opening.affordable is not None:
            # Of all processes alike, lest they divide their simulations otherwise.
            most = find_most(max(opening.affordable, len(theta)))
            opening = opening._replace(affordable=int(most))
        total = opening.expect(num_simulations) * count_ranks()
        entry = find_entry(total, settings.time_limit)
        if journal.note("begins", has_to_begin(trainer, retrain_from_scratch)):
            begin_anew(trainer, theta, x, entry, total)
        else:
            check_fits(trainer._neural_net, theta, x)
        share_weights(list_estimators(trainer))
        num_contrasts = get_loss(trainer).num_contrasts
        recipe = choose_recipe(
            entry,
            total,
            settings,
            is_separable=num_contrasts is None,
            is_streamed=True,
            num_passes=num_passes,
        )
        recipe = recipe._replace(batch_size=recipe.batch_size // count_ranks())
        check_rows(num_simulations, recipe.batch_size, num_contrasts)
        stacks = uses_base(trainer)
        division = divide_simulations(
            batched,
            prior,
            opening,
            num_simulations,
            recipe,
            num_contrasts,
            stacks,
            journal.num_begun or 0,
        )
        keep_opening(journal, division.opening)
        passes = StreamedPasses(
            division.first_pass,
            division.num_trained,
            recipe.batch_size,
            prior,
            is_single=recipe.num_passes == 1 and not stacks,
            notes_new=journal.is_kept,
        )
        journal.take_up(passes, theta.device)
        if stacks:
            held_out = division.held_out
            history = fit_structures(
                trainer,
                Source(
                    lambda size: (passes.with_batches_of(size), held_out),
                    lambda: gather(*passes.collect()),
                    lambda: gather(*join_pairs(held_out)),
                ),
                recipe,
                settings,
                journal,
                started=started,
                stop_after=None,
                most_passes=num_passes,
            )
        else:
            history = fit_by_recipe(
                trainer,
                passes,
                recipe,
                settings,
                journal,
                started=started,
                held_out=division.held_out or None,
            )
    trainer._record(describe_steps(history))
    history.raise_interruption()
    return trainer._neural_net
