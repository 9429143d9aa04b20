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
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.errors import TuningWarning
from sbi_aalr.seeding import generators_kept, seeded
from sbi_aalr.training.history import History
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.tuned_attempt import Fitted, attempt
from sbi_aalr.training.tuning_search import split_for_tuning
from sbi_aalr.tuning.ratio import can_tune

# By how much the tuned fit must be better than the plain one, nats. Both are of one
# size, so nothing speaks for the plain one but its loss.
_LEAST_GAIN = 0.0


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
        self._rows: tuple[Tensor, Tensor] | None = None

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
        limit, held_out = settings.pop("time_limit", None), settings.get("held_out")
        started = time.perf_counter() - plain.seconds
        kept, interruption = plain, None
        tried: list[Fitted] = []
        for number, wanted in enumerate(self.attempts):
            names = [name for name in wanted if can_tune(name, estimator)]
            is_over = limit is not None and _since(started) >= limit
            is_clear = any(not one.is_doubtful for one in tried)
            if number and (not names or is_over or is_clear):
                break
            report: dict[str, Any] = {
                "structure": getattr(estimator, "classifier_name", None),
                "settings": getattr(estimator, "classifier_settings", None),
                "names": names,
                "is_kept": False,
                "plain_seconds": plain.seconds,
            }
            self.reports.append(report)
            if held_out is None:
                report["given_up"] = "no rows were held out to choose by"
                break
            if not plain.is_finished:
                report["given_up"] = "no time was left"
                break
            if not names:
                report["given_up"] = "nothing to tune"
                continue
            with generators_kept():
                seed = int(torch.randint(2**31, ())) + number
            began = time.perf_counter()
            until = None if limit is None else started + limit
            found = self._attempt(
                report, until, estimator, begun, passes, plain, seed=seed, **settings
            )
            report["seconds"] = _since(began)
            if isinstance(found, Fitted):
                tried.append(found)
                interruption = found.history.interruption
            else:
                interruption = found
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
        until: float | None,
        *fit: Any,
        seed: int,
        **settings: Any,
    ) -> Fitted | KeyboardInterrupt | None:
        """The tuned fit, what interrupted it, or None if it came to nothing."""
        try:
            with seeded(seed):
                if self._rows is None:
                    self._rows = self._take_rows()
                rows = split_for_tuning(*self._rows, seed)
                left = None if until is None else max(1e-9, until - time.perf_counter())
                settings["time_limit"] = left
                found = attempt(report, rows, *fit, seed=seed, **settings)
        except KeyboardInterrupt as error:
            report["given_up"] = "interrupted"
            return error
        except (ValueError, RuntimeError) as error:
            report["given_up"] = str(error)
            warnings.warn(
                TuningWarning(
                    f"{', '.join(report['names'])} could not be tuned, and the plain "
                    f"fit is kept: {error} Leave out of `tune` what is to blame."
                ),
                stacklevel=2,
            )
            return None
        if isinstance(found, Fitted):
            return found
        report["given_up"] = "the final fit came to no end"
        return found.interruption


def _swap(first: RatioEstimator, second: RatioEstimator) -> None:
    """Give each the weights of the other."""
    weights = copy.deepcopy(first.state_dict())
    first.load_state_dict(second.state_dict())
    second.load_state_dict(weights)


def _since(started: float) -> float:
    return time.perf_counter() - started
