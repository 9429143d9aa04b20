"""One attempt to fit better than plainly: a search, a final fit, and a comparison."""

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator

from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.held_out import Loss
from sbi_aalr.training.history import History
from sbi_aalr.training.loop import fit
from sbi_aalr.training.passes import Passes, detach
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.tuning_search import (
    Found,
    TunedLoss,
    TuningRows,
    search_hyperparameters,
)

# Of the time that the plain fit leaves, the share of the search.
_SEARCH_SHARE = 0.6
# Standard errors of a gain from which on it is no accident.
_CLEAR = 2.0
# Rows to find by which layers read an encoding.
_FEW_ROWS = 8


class Fitted(NamedTuple):
    """A tuned fit.

    Attributes:
        gain: By how much its held-out loss is below that of the plain fit, nats.
        estimator: The estimator, in `eval()`.
        history: The history of the final fit.
        report: What came of it.
    """

    gain: float
    estimator: RatioEstimator
    history: History
    report: dict[str, Any]

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be no better than the plain one."""
        return self.gain < _CLEAR * float(self.report["gain_error"])


def attempt(
    report: dict[str, Any],
    rows: TuningRows,
    estimator: RatioEstimator,
    begun: RatioEstimator,
    passes: Passes,
    plain: History,
    *,
    seed: int,
    recipe: Recipe,
    loss: Loss,
    held_out: Iterable[Batch],
    clip_max_norm: float | None = None,
    time_limit: float | None = None,
    stop_after: int | None = None,
    show_progress_bars: bool = False,
    name: str = "",
) -> Fitted | History:
    """Tune what a report names, and fit with that.

    Args:
        report: Its `"names"` are tuned; what comes of it is filled in.
        rows: The rows that train in the search, and those that tune.
        estimator: The plain fit, which is not changed.
        begun: A copy of it from before training.
        passes: Batches of all rows but those held out.
        plain: The history of the plain fit.
        seed: Seed of the search.
        recipe: How to train.
        loss: What to train on.
        held_out: Batches that choose the best pass, and are compared on.
        clip_max_norm: Largest norm of the gradient; None for no limit.
        time_limit: Seconds for the search and the final fit; None for no limit.
        stop_after: Passes without a better held-out loss after which to end.
        show_progress_bars: Whether to show progress.
        name: What is fitted, for the progress bar.

    Returns:
        The tuned fit; the history alone of one that was over before its first pass.

    Raises:
        ValueError: If a loss has no hypergradient, or that of the rows held out is not
            finite.
    """
    began = time.perf_counter()
    report["num_training"], report["num_tuning"] = len(rows.training), len(rows.tuning)
    common: dict[str, Any] = {
        "clip_max_norm": clip_max_norm,
        "show_progress_bars": show_progress_bars,
    }
    found = search_hyperparameters(
        report["names"],
        begun,
        rows,
        loss,
        recipe,
        num_passes=recipe.num_passes or len(plain.pass_losses),
        seed=seed,
        time_limit=time_limit and _SEARCH_SHARE * time_limit,
        **common,
    )
    report.update(_describe(found))
    report["search_seconds"] = spent = time.perf_counter() - began
    final = _fit_with(
        found,
        passes,
        loss,
        recipe=recipe,
        held_out=held_out,
        time_limit=time_limit and max(1e-9, time_limit - spent),
        stop_after=stop_after,
        name=name,
        **common,
    )
    report["final_seconds"] = final.seconds
    if not final.validation_losses:
        return final
    tuned = found.estimator.eval()
    report.update(_compare(estimator, tuned, loss, held_out))
    if not math.isfinite(report["gain"]):
        losses = report["held_out_loss"]
        raise ValueError(f"the held-out loss must be finite, got {losses['tuned']}.")
    return Fitted(report["gain"], tuned, final, report)


def _fit_with(
    found: Found,
    passes: Passes,
    loss: Loss,
    **how: Any,
) -> History:
    """Fit with hyperparameters that are found; they leave nothing outside of it."""
    estimator = found.estimator
    knobs = found.knobs.requires_grad_(False).train()
    knobs.attach(estimator)
    try:
        history = fit(estimator, passes, loss=TunedLoss(loss, knobs), **how)
        if history.losses:
            batch = detach(next(iter(passes)))
            knobs.finish(estimator, batch.theta[:_FEW_ROWS], batch.x[:_FEW_ROWS])
    finally:
        knobs.detach()
    return history


def _describe(found: Found) -> dict[str, Any]:
    """What a report says of a search."""
    ends = found.knobs.summarise()
    return {
        "num_hyperparameters": sum(p.numel() for p in found.knobs.parameters()),
        "hyperparameters": {
            name: {"from": found.starts[name], "to": ends[name]} for name in ends
        },
        "search_steps": found.num_steps,
        "tuning_loss": found.tuning_loss,
    }


@torch.no_grad()
def _compare(
    plain: RatioEstimator, tuned: RatioEstimator, loss: Loss, held_out: Iterable[Batch]
) -> dict[str, Any]:
    """Compare two fits on rows that neither was trained on, row by row."""
    batches = [detach(batch) for batch in held_out]
    losses = []
    for estimator in (plain, tuned):
        # Contrasts of a network that is not separable are drawn: the same for both.
        with seeded(0):
            rows = [loss.of_batch(estimator.eval(), batch) for batch in batches]
        losses.append(torch.cat(rows).double())
    gains = losses[0] - losses[1]
    gain, error = float(gains.mean()), float(gains.std() / len(gains) ** 0.5)
    return {
        "num_held_out": len(gains),
        "held_out_loss": {
            "plain": float(losses[0].mean()),
            "tuned": float(losses[1].mean()),
        },
        "gain": gain,
        "gain_error": error,
    }
