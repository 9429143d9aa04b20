"""Fit on simulations that are made elsewhere, while they are made; see `fit_beside`."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator

from sbi_aalr.simulation.failing import Account, warn_of_failures
from sbi_aalr.simulation.fill import name_simulator, read_prior
from sbi_aalr.simulation.flow import Flow
from sbi_aalr.trainer.checkpoints import Checkpoints
from sbi_aalr.trainer.fit_beside import FitBeside
from sbi_aalr.trainer.fitting import describe_steps, fitting
from sbi_aalr.trainer.identity import identify
from sbi_aalr.trainer.journal import open_journal
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.trainer.streaming import Streaming
from sbi_aalr.training.recipe import TrainingSettings

_LARGEST = 2**62


def fit_streamed(
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
    """Fit the trainer's estimator beside the simulations; see `AALR.train_online`.

    Args:
        trainer: Whose estimator to fit.
        simulator: Any simulator that sbi accepts.
        num_simulations: Budget, in simulations, those that fail included.
        settings: What the user set.
        checkpoints: Whether to keep how far it came, and where.
        streaming: Where simulations are made and kept.
        num_passes: How often each simulation is used; None leaves it to the recipe.
        retrain_from_scratch: Begin with new weights.
        seed: Makes the run repeatable.

    Returns:
        The fitted estimator.
    """
    with open_journal(checkpoints) as journal, fitting(trainer, seed):
        started = time.perf_counter() - journal.seconds
        prior = read_prior(trainer._prior)
        store = streaming.open_store()
        known = None if store is None else store.describe()["seed"]
        given = seed
        if seed is None:
            seed = int(torch.randint(_LARGEST, ())) if known is None else known
        run = journal.note("run", seed)
        identify(
            journal,
            trainer,
            "train_online",
            settings,
            simulator=name_simulator(simulator),
            num_simulations=num_simulations,
            num_passes=num_passes,
            retrain_from_scratch=retrain_from_scratch,
            seed=given,
            on_error=streaming.on_error,
            streams=True,
        )
        flow = Flow(
            simulator,
            prior,
            num_simulations,
            run=run,
            executor=streaming.executor,
            store=store,
            on_error=streaming.on_error,
            timeout=streaming.timeout,
        )
        if settings.time_limit is not None:
            flow.deadline = started + settings.time_limit
        with closing(flow):
            one = FitBeside(trainer, journal, flow, prior, num_simulations, streaming)
            with flow.turn_kept():
                history = one.fit(settings, started, num_passes, retrain_from_scratch)
    trainer._record(describe_steps(history))
    history.raise_interruption()
    if one.failed:
        warn_of_failures(Account(flow.num_tried, len(one.failed)))
    return trainer._neural_net
