"""How much can be done in the time that is left, on a machine that others use too."""

import time


class Clock:
    """Counts down, and learns how long one evaluation of a network takes here.

    Args:
        seconds: About how long all may take; None for as long as it takes.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._started = time.perf_counter()
        self._seconds_each = 0.0

    @property
    def left(self) -> float | None:
        """Seconds that are left, zero at least; None without a limit."""
        if self._seconds is None:
            return None
        return max(0.0, self._seconds - (time.perf_counter() - self._started))

    def learn(self, num_evaluations: int, since: float) -> None:
        """Take in that so many evaluations were done since a time of `perf_counter`."""
        self._seconds_each = (time.perf_counter() - since) / max(1, num_evaluations)

    def afford(self, most: int, evaluations_each: float, share: float) -> int:
        """How many there is time for, of which each needs so many evaluations.

        Args:
            most: How many are wanted.
            evaluations_each: Evaluations for one of them.
            share: Share of the time that is left.
        """
        left, cost = self.left, self._seconds_each * evaluations_each
        if left is None or cost * most <= share * left:
            return most
        return int(share * left / cost)
