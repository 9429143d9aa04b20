"""How much of the simulations and of the seconds of a fit is spent."""

import time

from sbi_aalr.training.parcel import Parcel
from sbi_aalr.training.ranks import find_most
from sbi_aalr.training.schedule import compute_rate_factor

# Share of the seconds by which the clock may be ahead.
_HEAD_START = 0.02


class Budget:
    """What a fit may spend, in simulations, in seconds, or in both.

    Args:
        num_simulations: Simulations in all passes; None if nobody knows.
        time_limit: Seconds; None for no limit.
    """

    def __init__(self, num_simulations: int | None, time_limit: float | None) -> None:
        self._num_simulations = num_simulations
        self._time_limit = time_limit
        self._started = self._last = time.perf_counter()
        self._spent, self._furthest = 0, 0.0
        self._reserved = self._step_seconds = 0.0

    def begin_pass(self, reserved: float) -> None:
        """Leave some seconds for what comes after the pass."""
        self._last = time.perf_counter()
        self._reserved, self._step_seconds = reserved, 0.0

    def spend(self, num_simulations: int) -> None:
        """Count the simulations of a step, and how long it took."""
        now = time.perf_counter()
        self._step_seconds, self._last = now - self._last, now
        self._spent += num_simulations

    def measure_progress(self) -> float:
        """Share that is spent, of what runs out sooner; above 1 if nothing is left."""
        progress = 0.0
        if self._num_simulations is not None:
            progress = self._spent / self._num_simulations
        if self._time_limit is not None:
            # The next step will take as long as the last. No more than a quarter, as
            # what is measured first may be much slower than it will be.
            reserved = min(self._reserved + self._step_seconds, self._time_limit / 4)
            elapsed = time.perf_counter() - self._started
            # One process must not stop while others wait for it.
            share = find_most((elapsed + reserved) / self._time_limit)
            progress = max(progress, share)
        return progress

    def compute_rate_factor(self) -> float:
        """Factor of the learning rate; 1 if there is no end to come down to."""
        if self._num_simulations is None and self._time_limit is None:
            return 1.0
        progress = min(1.0, self.measure_progress())
        if self._num_simulations is not None:
            spent = self._spent / self._num_simulations
            # First steps are slow. Unless the clock is well ahead it has no say, so
            # that a seed gives the same weights under a limit that is not reached.
            progress = spent if progress <= 0.8 * spent + _HEAD_START else progress
        # A step that waited says that the next one may; that it did not is no way back.
        self._furthest = max(self._furthest, progress)
        return compute_rate_factor(self._furthest, self._num_simulations is not None)

    def pack(self) -> Parcel:
        """What `unpack` makes the same of."""
        seconds = time.perf_counter() - self._started
        facts = {
            "spent": self._spent,
            "seconds": seconds,
            "time_limit": self._time_limit,
        }
        return Parcel({}, facts)

    def unpack(self, parcel: Parcel) -> None:
        """Go on from what `pack` returned, as if no time had passed since."""
        self._spent = parcel.facts["spent"]
        self._time_limit = parcel.facts["time_limit"]
        self._started = time.perf_counter() - parcel.facts["seconds"]
