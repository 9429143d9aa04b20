"""What happened in a fit, written down while it runs and summed up at its end."""

import itertools
import math
import time
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from sbi_aalr.errors import TimeLimitWarning
from sbi_aalr.training.parcel import Parcel

# Reading losses waits for the device, so it is done for a few steps at once.
_LAST_STEPS = 1000
# A fit that ends before these has hardly begun. Of 60 passes over 2,000 simulations of
# two moons or an epidemic, 2 gave 0.7 nats less than all, 8 gave 0.4, 30 up to 0.2.
_FEW_SHARE, _FEW_STEPS = 0.25, 500


class History(NamedTuple):
    """What happened in a fit.

    Attributes:
        losses: Mean loss of each batch before its update, nats.
        learning_rates: Learning rate of each update.
        pass_losses: Mean loss of each pass, nats.
        validation_losses: Held-out loss after each pass, nats; empty without one.
        pass_seconds: Wall time of each pass.
        seconds: Wall time of the whole fit.
        is_finished: Whether it ended by itself: its passes were done, or the held-out
            loss no longer fell. False where the time was up.
        interruption: What Ctrl-C raised, for whoever has more to write down before it
            goes on; None if nobody interrupted.
        num_planned: Passes it would have had without a limit of time, or which it takes
            to see that the held-out loss no longer falls; None if there is no end.
    """

    losses: list[float]
    learning_rates: list[float]
    pass_losses: list[float]
    validation_losses: list[float]
    pass_seconds: list[float]
    seconds: float
    is_finished: bool
    interruption: KeyboardInterrupt | None = None
    num_planned: int | None = None

    def raise_interruption(self) -> None:
        """Let Ctrl-C go on, if there was one."""
        if self.interruption is not None:
            raise self.interruption

    def pack(self) -> Parcel:
        """What `unpack_history` makes the same of."""
        tensors = {
            name: torch.tensor(getattr(self, name), dtype=torch.float64)
            for name in _SERIES
        }
        facts = {
            "seconds": self.seconds,
            "is_finished": self.is_finished,
            "num_planned": self.num_planned,
        }
        return Parcel(tensors, facts)


_SERIES = (
    "losses",
    "learning_rates",
    "pass_losses",
    "validation_losses",
    "pass_seconds",
)


def unpack_history(parcel: Parcel) -> History:
    """Make a history of what `History.pack` returned."""
    series: dict[str, Any] = {name: parcel.tensors[name].tolist() for name in _SERIES}
    return History(**series, **parcel.facts)


def warn_of_hurry(
    histories: Iterable[History | None], time_limit: float | None
) -> None:
    """Warn if a limit of time ended a fit that had hardly begun.

    Args:
        histories: The histories of all fits; None where there is none.
        time_limit: The limit that the user set, seconds; None for none.

    Warns:
        TimeLimitWarning: If one had fewer than a quarter of its passes, and few steps.
    """
    ended = [h for h in histories if h is not None and _is_hurried(h)]
    if time_limit is None or not ended:
        return
    least = min(ended, key=lambda history: len(history.losses))
    done = len(least.pass_losses)
    warnings.warn(
        TimeLimitWarning(
            f"`time_limit` of {time_limit:g} s ended training in pass {done} of "
            f"{least.num_planned}, after {len(least.losses)} steps, so that posteriors "
            "may be wrong, most of them far too wide. Give more seconds.",
            len(least.losses),
        ),
        stacklevel=2,
    )


def raise_too_short(time_limit: float | None) -> NoReturn:
    """Say that a limit of time was over before the first step.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        "`time_limit` must be long enough to simulate and to take one step, got "
        f"{time_limit}, which were over before. Give more seconds."
    )


def _is_hurried(history: History) -> bool:
    if history.is_finished or history.interruption is not None:
        return False
    few_passes = len(history.pass_losses) < _FEW_SHARE * (history.num_planned or 0)
    return few_passes and len(history.losses) < _FEW_STEPS


class Recorder:
    """Writes down losses and times.

    Args:
        learning_rate: Largest learning rate, for the message about a loss that is not
            finite.
    """

    def __init__(self, learning_rate: float) -> None:
        self._learning_rate = learning_rate
        self._losses: list[Tensor] = []
        self._rates: list[float] = []
        self._started = time.perf_counter()
        # Steps done, and the time, at the end of each pass.
        self._ends = [(0, self._started)]

    @property
    def num_steps(self) -> int:
        """Steps taken so far."""
        return len(self._losses)

    @property
    def num_steps_in_pass(self) -> int:
        """Steps since the last pass that is over."""
        return self.num_steps - self._ends[-1][0]

    def pack(self) -> Parcel:
        """What `unpack` makes the same of."""
        losses = torch.stack(self._losses) if self._losses else torch.zeros(0)
        rates = torch.tensor(self._rates, dtype=torch.float64)
        ends = [(steps, at - self._started) for steps, at in self._ends]
        facts = {"ends": ends, "seconds": time.perf_counter() - self._started}
        return Parcel({"losses": losses, "rates": rates}, facts)

    def unpack(self, parcel: Parcel, device: torch.device) -> None:
        """Go on from what `pack` returned, as if no time had passed since."""
        self._losses = list(parcel.tensors["losses"].to(device).unbind())
        self._rates = parcel.tensors["rates"].tolist()
        self._started = time.perf_counter() - parcel.facts["seconds"]
        self._ends = [(n, self._started + at) for n, at in parcel.facts["ends"]]

    def add_step(self, loss: Tensor, rate_factor: float) -> None:
        """Write down the loss of a batch, shape `()`, and the rate of its update."""
        self._losses.append(loss)
        self._rates.append(rate_factor * self._learning_rate)

    def end_pass(self) -> None:
        """Write down that a pass is over, if it had a step."""
        if self.num_steps > self._ends[-1][0]:
            self._ends.append((self.num_steps, time.perf_counter()))

    def average_last(self, num_steps: int) -> float:
        """Mean loss of the last steps, nats."""
        return float(torch.stack(self._losses[-num_steps:]).mean())

    def check_finite(self) -> None:
        """Raise if the loss has become NaN or infinite."""
        last = _read(self._losses[-_LAST_STEPS:])
        for step, value in enumerate(last, start=self.num_steps - len(last) + 1):
            if not math.isfinite(value):
                raise RuntimeError(
                    f"The loss became {value} at step {step}. Lower "
                    f"`learning_rate` (now {self._learning_rate}) or scale `x`."
                )

    def finish(
        self,
        validation_losses: list[float],
        num_planned: int | None,
        is_finished: bool,
        interruption: KeyboardInterrupt | None,
    ) -> History:
        """Sum up, where a fit has ended by itself or not."""
        losses = _read(self._losses)
        spans = [
            losses[begin:end] for (begin, _), (end, _) in itertools.pairwise(self._ends)
        ]
        return History(
            losses=losses,
            learning_rates=self._rates,
            pass_losses=[sum(span) / len(span) for span in spans],
            validation_losses=validation_losses,
            pass_seconds=[
                end - begin for (_, begin), (_, end) in itertools.pairwise(self._ends)
            ],
            seconds=time.perf_counter() - self._started,
            is_finished=is_finished,
            interruption=interruption,
            num_planned=num_planned,
        )


def _read(losses: list[Tensor]) -> list[float]:
    return torch.stack(losses).tolist() if losses else []
