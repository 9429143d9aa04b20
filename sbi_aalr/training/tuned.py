"""Tune hyperparameters of a fit by gradient, and keep them only if that is better.

First the plain fit. Then a search with other weights, in which most rows train and the
others tune. Then a final fit with what was found, on all of these rows. Rows that
neither trained nor tuned choose between the plain and the final fit; a stack is offered
both, and the same rows weigh them. Where the plain fit stays, something else is tuned.

References:
    Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590.
"""

import copy
import math
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
        attempts: Names of what to tune, each wherever there is such a thing. Later ones
            are tried where the fit that earlier ones lead to is not kept.
        take_rows: Gives the rows that are trained on, theta `(N, D)` and x
            `(N, *event_shape)`; of more than memory holds, some.

    Attributes:
        reports: What came of each attempt at each fit.
        plain_seconds: How long the plain fits took.
        others: Of each estimator that was fitted again, the best of the fits that were
            not kept.
    """

    def __init__(
        self,
        attempts: Sequence[Sequence[str]],
        take_rows: Callable[[], tuple[Tensor, Tensor]],
    ) -> None:
        self.attempts = [list(names) for names in attempts]
        self.reports: list[dict[str, Any]] = []
        self.plain_seconds = 0.0
        self.others: dict[RatioEstimator, RatioEstimator] = {}
        self._take_rows = take_rows

    def improve(
        self,
        estimator: RatioEstimator,
        begun: RatioEstimator,
        passes: Passes,
        plain: History,
        **settings: Any,
    ) -> History:
        """Fit an estimator again, with what is tuned, and keep that if it is better.

        The global generators stay as they are, so that what follows the plain fit,
        where it is kept, is what there would be without tuning.

        Args:
            estimator: Fitted plainly, on the device it is on; changed in place.
            begun: A copy of it from before that.
            passes: Batches of all rows but those held out.
            plain: The history of the plain fit.
            **settings: Those of the plain fit, see `training.loop.Fit`. Its time limit
                is for all fits together. The batches held out, by which it chose its
                best pass, choose that of the tuned one, and the better of the two.

        Returns:
            The history of the fit that is kept, with the seconds of all.

        Warns:
            TuningWarning: If there was no gradient to tune by.
        """
        self.plain_seconds += plain.seconds
        if plain.interruption is not None:
            return plain
        limit = settings.get("time_limit") or math.inf
        best, history, report = -math.inf, plain, dict[str, Any]()
        for number, wanted in enumerate(self.attempts):
            names = [name for name in wanted if can_tune(name, estimator)]
            is_over = history.seconds >= limit or history.interruption is not None
            if number and (not names or is_over or "gain" not in report):
                break
            report = {
                "structure": getattr(estimator, "classifier_name", None),
                "settings": getattr(estimator, "classifier_settings", None),
                "names": names,
                "is_kept": False,
                "plain_seconds": plain.seconds,
            }
            self.reports.append(report)
            with generators_kept():
                seed = int(torch.randint(2**31, ())) + number
            # Seconds of what was tried before count as those of the plain fit.
            history, tuned = self._attempt(
                report, seed, estimator, begun, passes, history, **settings
            )
            if tuned is not None and report["gain"] > best:
                best, self.others[estimator] = report["gain"], tuned
            if report["is_kept"]:
                break
        return history

    def _attempt(
        self,
        report: dict[str, Any],
        seed: int,
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
    ) -> tuple[History, RatioEstimator | None]:
        """Tune the names of a report, which is filled in.

        Returns:
            The history of the fit that is kept, and the fit that is not, if there are
            two.
        """
        names, kept, other = report["names"], plain, None
        started = time.perf_counter() - plain.seconds
        common: dict[str, Any] = {
            "clip_max_norm": clip_max_norm,
            "show_progress_bars": show_progress_bars,
        }
        both: dict[str, Any] = {"recipe": recipe, "held_out": held_out}
        both |= {"stop_after": stop_after, "name": name}
        if not names or held_out is None or not plain.is_finished:
            report["given_up"] = "no time was left" if names else "nothing to tune"
            return plain, None

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
                    other = found.estimator.eval()
                    report.update(_compare(estimator, other, loss, held_out))
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
        return kept._replace(seconds=report["seconds"]), other


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
