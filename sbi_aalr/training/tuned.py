"""Tune hyperparameters of a fit by gradient, and keep them only if that is better.

First the plain fit. Then a search with other weights, in which most rows train and the
others tune. Then a final fit with what was found, on all of these rows. Rows that
neither trained nor tuned choose between the plain and the final fit; a stack is offered
both, and the same rows weigh them. Where the final fit is not clearly better, something
else is tuned as well, and the best of all fits is kept.

References:
    Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590.
"""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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
# Standard errors of that from which on nothing else is tried.
_CLEAR = 2.0
# Of the time that the plain fit leaves, the share of the search.
_SEARCH_SHARE = 0.6
# Rows to find by which layers read an encoding.
_FEW_ROWS = 8


class _Fitted(NamedTuple):
    """A tuned fit, by how much it is better than the plain one, and what came of it."""

    gain: float
    estimator: RatioEstimator
    history: History
    report: dict[str, Any]

    @property
    def is_doubtful(self) -> bool:
        """Whether it may be no better than the plain one."""
        return self.gain < _CLEAR * float(self.report["gain_error"])


class Tuner:
    """Fits estimators again with tuned hyperparameters, and keeps the better fit.

    Args:
        attempts: Names of what to tune, each wherever there is such a thing. Later ones
            are tried where earlier ones are not clearly better than the plain fit.
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
        started = time.perf_counter() - plain.seconds
        kept, interruption = plain, None
        tried: list[_Fitted] = []
        for number, wanted in enumerate(self.attempts):
            names = [name for name in wanted if can_tune(name, estimator)]
            is_doubtful = (
                tried and tried[-1].gain < _CLEAR * tried[-1].report["gain_error"]
            )
            if number and not (names and is_doubtful and _since(started) < limit):
                break
            report: dict[str, Any] = {
                "structure": getattr(estimator, "classifier_name", None),
                "settings": getattr(estimator, "classifier_settings", None),
                "names": names,
                "is_kept": False,
                "plain_seconds": plain.seconds,
            }
            self.reports.append(report)
            with generators_kept():
                seed = int(torch.randint(2**31, ())) + number
            found, interruption = self._attempt(
                report, seed, estimator, begun, passes, plain, started, **settings
            )
            tried += [] if found is None else [found]
            if interruption is not None:
                break
        tried.sort(key=lambda one: one.gain, reverse=True)
        if tried and tried[0].gain > _LEAST_GAIN:
            best = tried[0]
            best.report["is_kept"], kept = True, best.history
            _swap(estimator, best.estimator)
            # Which is the plain one now.
            tried[0] = best._replace(gain=0.0)
        if tried:
            self.others[estimator] = max(tried, key=lambda one: one.gain).estimator
        return kept._replace(seconds=_since(started), interruption=interruption)

    def _attempt(
        self,
        report: dict[str, Any],
        seed: int,
        estimator: RatioEstimator,
        begun: RatioEstimator,
        passes: Passes,
        plain: History,
        started: float,
        *,
        recipe: Recipe,
        loss: Loss,
        clip_max_norm: float | None = None,
        time_limit: float | None = None,
        held_out: Iterable[Batch] | None = None,
        stop_after: int | None = None,
        show_progress_bars: bool = False,
        name: str = "",
    ) -> tuple[_Fitted | None, KeyboardInterrupt | None]:
        """Tune the names of a report, which is filled in.

        Returns:
            The tuned fit, if there is one, and what interrupted it.
        """
        names, began, interruption = report["names"], time.perf_counter(), None
        common: dict[str, Any] = {
            "clip_max_norm": clip_max_norm,
            "show_progress_bars": show_progress_bars,
        }
        fitted: _Fitted | None = None
        both: dict[str, Any] = {"recipe": recipe, "held_out": held_out}
        both |= {"stop_after": stop_after, "name": name}
        if not names or held_out is None or not plain.is_finished:
            report["given_up"] = "no time was left" if names else "nothing to tune"
            return None, None

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
                report["search_seconds"] = _since(began)
                final = _fit_with(
                    found,
                    passes,
                    loss,
                    time_limit=count_seconds(),
                    **both,
                    **common,
                )
                report["final_seconds"] = final.seconds
                interruption = final.interruption
                if final.validation_losses:
                    tuned = found.estimator.eval()
                    report.update(_compare(estimator, tuned, loss, held_out))
                    fitted = _Fitted(report["gain"], tuned, final, report)
            except KeyboardInterrupt as error:
                report["given_up"], interruption = "interrupted", error
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
        return fitted, interruption


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


def _swap(first: RatioEstimator, second: RatioEstimator) -> None:
    """Give each the weights of the other."""
    weights = copy.deepcopy(first.state_dict())
    first.load_state_dict(second.state_dict())
    second.load_state_dict(weights)


def _since(started: float) -> float:
    return time.perf_counter() - started
