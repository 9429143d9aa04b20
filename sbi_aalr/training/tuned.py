"""Tune hyperparameters of a fit by gradient, and keep them only if that is better.

First the plain fit. Then a search with other weights, in which most rows train and the
others tune. Then a final fit with what was found, on all of these rows. Rows that
neither trained nor tuned choose between the plain and the final fit; a stack is offered
both, and the same rows weigh them.

References:
    Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590.
"""

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.errors import TuningWarning
from sbi_aalr.seeding import generators_kept, seeded
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.held_out import Loss
from sbi_aalr.training.history import History
from sbi_aalr.training.loop import fit
from sbi_aalr.training.passes import Passes, detach
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.tuning_search import (
    Found,
    TunedLoss,
    search_hyperparameters,
    split_for_tuning,
)
from sbi_aalr.tuning.ratio import can_tune

# By how much the tuned fit must be better than the plain one, nats. Both are of one
# size, so nothing speaks for the plain one but its loss.
_LEAST_GAIN = 0.0
# Of the time that the plain fit leaves, the share of the search.
_SEARCH_SHARE = 0.6
# Rows to find by which layers read an encoding.
_FEW_ROWS = 8


class Tuner:
    """Fits estimators again with tuned hyperparameters, and keeps the better fit.

    Args:
        names: What to tune, each wherever there is such a thing.
        take_rows: Gives the rows that are trained on, theta `(N, D)` and x
            `(N, *event_shape)`; of more than memory holds, some.

    Attributes:
        reports: What came of each fit.
        others: Of each estimator that was fitted twice, the fit that was not kept.
    """

    def __init__(
        self, names: Sequence[str], take_rows: Callable[[], tuple[Tensor, Tensor]]
    ) -> None:
        self.names = list(names)
        self.reports: list[dict[str, Any]] = []
        self.others: dict[RatioEstimator, RatioEstimator] = {}
        self._take_rows = take_rows

    def improve(
        self,
        estimator: RatioEstimator,
        begun: RatioEstimator,
        passes: Passes,
        plain: History,
        *,
        recipe: Recipe,
        loss: Loss,
        clip_max_norm: float | None = None,
        time_limit: float | None = None,
        held_out: Iterable[Batch] | None = None,
        stop_after: int | None = None,
        show_progress_bars: bool = False,
        name: str = "",
    ) -> History:
        """Fit an estimator again, with what is tuned, and keep that if it is better.

        The global generators stay as they are, so that what follows the plain fit,
        where it is kept, is what there would be without tuning.

        Args:
            estimator: Fitted plainly, on the device it is on; changed in place.
            begun: A copy of it from before that.
            passes: Batches of all rows but those held out.
            plain: The history of the plain fit.
            recipe: How to train.
            loss: What to train on.
            clip_max_norm: Largest norm of the gradient; None for no limit.
            time_limit: Seconds for all, those of the plain fit included.
            held_out: Batches that chose the best pass of the plain fit, and choose that
                of the tuned one, and the better of the two.
            stop_after: Passes without a better held-out loss after which to end.
            show_progress_bars: Whether to show progress.
            name: What is fitted, for the progress bar.

        Returns:
            The history of the fit that is kept, with the seconds of both.

        Warns:
            TuningWarning: If there was no gradient to tune by.
        """
        if plain.interruption is not None:
            return plain
        started = time.perf_counter() - plain.seconds
        kept = plain
        common: dict[str, Any] = {
            "clip_max_norm": clip_max_norm,
            "show_progress_bars": show_progress_bars,
        }
        both: dict[str, Any] = {"recipe": recipe, "held_out": held_out}
        both |= {"stop_after": stop_after, "name": name}
        names = [name for name in self.names if can_tune(name, estimator)]
        report: dict[str, Any] = {
            "structure": getattr(estimator, "classifier_name", None),
            "settings": getattr(estimator, "classifier_settings", None),
            "names": names,
            "is_kept": False,
            "plain_seconds": plain.seconds,
        }
        self.reports.append(report)
        if not names or held_out is None or not plain.is_finished:
            report["given_up"] = "no time was left" if names else "nothing to tune"
            return plain

        def count_seconds(share: float = 1.0) -> float | None:
            if time_limit is None:
                return None
            left = time_limit - (time.perf_counter() - started)
            return max(1e-9, share * left)

        def search(seed: int) -> Found:
            rows = split_for_tuning(*self._take_rows(), seed)
            report["num_training"] = len(rows.training)
            report["num_tuning"] = len(rows.tuning)
            return search_hyperparameters(
                names,
                begun,
                rows,
                loss,
                recipe,
                num_passes=recipe.num_passes or len(plain.pass_losses),
                seed=seed,
                time_limit=count_seconds(_SEARCH_SHARE),
                **common,
            )

        with generators_kept():
            seed = int(torch.randint(2**31, ()))
        with seeded(seed):
            try:
                found = search(seed)
                report.update(_describe(found))
                report["search_seconds"] = _since(started) - plain.seconds
                final = _fit_with(
                    found,
                    passes,
                    loss,
                    time_limit=count_seconds(),
                    **both,
                    **common,
                )
                report["final_seconds"] = final.seconds
                if final.validation_losses:
                    tuned = found.estimator
                    report.update(_compare(estimator, tuned, loss, held_out))
                    self.others[estimator] = tuned.eval()
                if report["is_kept"]:
                    _swap(estimator, found.estimator)
                    kept = final
                kept = kept._replace(interruption=final.interruption)
            except KeyboardInterrupt as error:
                report["given_up"] = "interrupted"
                kept = plain._replace(interruption=error)
            except (ValueError, RuntimeError) as error:
                report["given_up"] = str(error)
                warnings.warn(
                    TuningWarning(
                        f"{', '.join(names)} could not be tuned, and the plain fit is "
                        f"kept: {error} Leave out of `tune` what is to blame."
                    ),
                    stacklevel=2,
                )
        report["seconds"] = _since(started)
        return kept._replace(seconds=report["seconds"])


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
        "is_kept": gain > _LEAST_GAIN,
    }


def _swap(first: RatioEstimator, second: RatioEstimator) -> None:
    """Give each the weights of the other."""
    weights = copy.deepcopy(first.state_dict())
    first.load_state_dict(second.state_dict())
    second.load_state_dict(weights)


def _since(started: float) -> float:
    return time.perf_counter() - started
