"""Truncated rounds: spend simulations where one observation's posterior is.

Each round trains on draws of the prior cut down to where the last round's ratio is not
negligible. As only the support changes, and not the shape, the ratio inside is
proportional to the likelihood, and the posterior is that of the original prior.
Simulations of earlier rounds that lie inside are draws of the cut prior as well, and
are used again; those outside still teach a density of the data given parameters, which
does not ask how often parameters come.

References:
    Miller et al. (2021), *Truncated Marginal Neural Ratio Estimation*,
    arXiv:2107.01214.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_finite, check_fraction, check_positive_int
from sbi_aalr.diagnostics.misspecification import (
    MIN_SIMULATIONS,
    warn_if_misspecified,
)
from sbi_aalr.errors import CallOrderError, NormaliserWarning
from sbi_aalr.files import hash_tensors
from sbi_aalr.persistence.checkpoint_files import remove_checkpoint
from sbi_aalr.sampling.truncated_prior import TruncatedPrior, cut_prior
from sbi_aalr.seeding import generators_kept, seeded
from sbi_aalr.simulation.adapt import prepare
from sbi_aalr.simulation.batches import simulate
from sbi_aalr.simulation.fill import name_simulator
from sbi_aalr.trainer.checkpoints import Checkpoints
from sbi_aalr.trainer.identity import identify
from sbi_aalr.trainer.journal import Journal, open_journal
from sbi_aalr.trainer.rounds import Round
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.recipe import TrainingSettings
from sbi_aalr.types import Simulator

_LEAST_A_ROUND = 20
# Simulations that the observation is compared with: of images more take long.
_MOST_COMPARED = 5_000


def fit_truncated(
    trainer: SbiTrainer,
    simulator: Callable[..., Any],
    x_o: Tensor,
    num_simulations: int,
    settings: TrainingSettings,
    checkpoints: Checkpoints,
    *,
    num_rounds: int,
    epsilon: float,
    seed: int | None,
) -> RatioEstimator:
    """Fit the trainer's estimator in rounds; see `AALR.train_truncated`.

    Args:
        trainer: Whose estimator to fit.
        simulator: Any simulator that sbi accepts.
        x_o: The observation, shape `event_shape` or `(1, *event_shape)`.
        num_simulations: Budget of all rounds together, in simulations.
        settings: Whose `time_limit` holds in each round.
        checkpoints: Whether to keep how far it came, and where.
        num_rounds: Number of rounds.
        epsilon: Share of the posterior that each round may cut off.
        seed: Makes the run repeatable.

    Returns:
        The estimator of the last round.
    """
    num_simulations = check_positive_int("num_simulations", num_simulations)
    num_rounds = check_positive_int("num_rounds", num_rounds)
    if num_simulations < _LEAST_A_ROUND * num_rounds:
        raise ValueError(
            f"`num_simulations` must be at least {_LEAST_A_ROUND} for each of the "
            f"{num_rounds} rounds, got {num_simulations}. Simulate more, or make "
            "`num_rounds` less."
        )
    epsilon = check_fraction("epsilon", epsilon)
    if trainer._prior is None:
        raise CallOrderError(
            "Rounds draw from the prior. Give it at the start: `AALR(prior)`."
        )
    x_o = _read_observation(x_o)
    with (
        open_journal(checkpoints) as journal,
        seeded(seed),
        torch.inference_mode(False),
    ):
        identify(
            journal,
            trainer,
            "train_truncated",
            settings,
            simulator=name_simulator(simulator),
            x_o=hash_tensors({"x_o": x_o}),
            num_simulations=num_simulations,
            num_rounds=num_rounds,
            epsilon=epsilon,
            seed=seed,
        )
        batched, prior = prepare(simulator, trainer._prior)
        x_o = _check_shape(x_o, batched, prior)
        truncated: TruncatedPrior | None = None
        theta = prior.sample((1,))[:0]
        x = torch.zeros(0)
        left = num_simulations
        for index in range(num_rounds):
            rows = -(-left // (num_rounds - index))
            left -= rows
            of_round = Round(journal, trainer, truncated, settings, index)
            fresh = of_round.draw_theta(rows, prior)
            made = of_round.simulate(batched, fresh)
            if index == 0 and len(made) >= MIN_SIMULATIONS:
                warn_if_misspecified(x_o, made[:_MOST_COMPARED], stacklevel=4)
            theta = torch.cat((theta, fresh))
            x = torch.cat((x.reshape(-1, *made.shape[1:]), made))
            for_round = _make_trainer(trainer)
            if truncated is None:
                for_round.append_simulations(theta, x)
            else:
                kept = truncated.keeps(theta)
                for_round._cut = truncated.keeps
                for_round._cut_log_share = truncated.find_log_share(
                    truncated.num_accepted, truncated.num_proposed
                )
                if not kept.all():
                    for_round._cut_off = theta[~kept], x[~kept]
                for_round.append_simulations(theta[kept], x[kept])
            try:
                with warnings.catch_warnings():
                    # The next round asks for posteriors, whatever the ratio's level.
                    warnings.simplefilter("ignore", NormaliserWarning)
                    for_round.train(
                        time_limit=settings.time_limit,
                        **_checkpoint_within(checkpoints, journal, index),
                    )
            except KeyboardInterrupt:
                # What the round before has learnt is of more use, if there was one.
                if index == 0 and for_round._neural_net is not None:
                    _take_over(trainer, for_round, truncated)
                raise
            _take_over(trainer, for_round, truncated)
            if index < num_rounds - 1:
                draws, seen = of_round.draw_posterior(truncated or prior, x_o)
                estimator = trainer._neural_net
                truncated = cut_prior(
                    truncated or prior, estimator, seen, draws, epsilon
                )
    return trainer._neural_net


def _read_observation(x_o: object) -> Tensor:
    """Return the observation, or raise if it is not made of numbers."""
    try:
        # Lists of numbers have the digits of Python's.
        values = torch.as_tensor(x_o if isinstance(x_o, Tensor) else np.asarray(x_o))
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None or values.is_complex():
        raise TypeError(
            "`x_o` must be a tensor or an array of real numbers, got "
            f"{type(x_o).__name__ if values is None else values.dtype}."
        )
    values = values if values.dtype == torch.float32 else values.double()
    return check_finite("x_o", values)


def _check_shape(x_o: Tensor, simulator: Simulator, prior: Distribution) -> Tensor:
    """Return the observation as one row, or raise if it is not what is simulated.

    Found by a simulation of its own, as a whole round of them may take days.
    """
    with generators_kept():
        shape = simulate(simulator, prior.sample((1,))).shape[1:]
    if x_o.shape not in (shape, (1, *shape)):
        raise ValueError(
            f"`x_o` must be one observation of shape {tuple(shape)} or {(1, *shape)}, "
            f"as the simulator returns, got {tuple(x_o.shape)}. For several, or for "
            "i.i.d. trials, use `train_online`."
        )
    return x_o.reshape(1, *shape)


def _checkpoint_within(
    checkpoints: Checkpoints, journal: Journal, index: int
) -> dict[str, Any]:
    """The arguments of `train` that keep how far a round came, beside the journal."""
    if checkpoints.folder is None:
        return {}
    folder = Path(checkpoints.folder) / f"round_{index + 1}"
    if not journal.is_resumed:
        remove_checkpoint(folder)
    return {"checkpoint": folder, "checkpoint_every": checkpoints.every}


def _make_trainer(trainer: SbiTrainer) -> Any:
    """A trainer like this one, for a round of its own."""
    return type(trainer)(
        trainer._prior,
        trainer._build_neural_net,
        trainer._device,
        show_progress_bars=trainer._show_progress_bars,
        loss=trainer._ratio_loss,
        base=trainer._given_base,
        embedding_net_x=trainer._embedding_net_x,
        exchangeable=trainer._exchangeable,
    )


def _take_over(
    trainer: SbiTrainer, for_round: SbiTrainer, truncated: TruncatedPrior | None
) -> None:
    """Take over the estimator of a round, and what it wrote down."""
    trainer._neural_net = for_round._neural_net
    trainer._structures = for_round._structures
    trainer._truncated_prior, trainer._validity = truncated, None
    share = 1.0
    if truncated is not None:
        share = truncated.num_accepted / truncated.num_proposed
    summary = for_round.summary
    trainer._summary.setdefault("recipe", []).extend(summary["recipe"])
    names = ("training_loss", "validation_loss", "fit_seconds", "interrupted")
    trainer._record(
        {**{name: summary[name] for name in names}, "accepted_share": [share]}
    )
