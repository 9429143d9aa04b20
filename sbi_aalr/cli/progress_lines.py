"""Progress of long work: a bar in a terminal, elsewhere a line every half minute."""

import itertools
import sys
import threading
import time
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

from sbi_aalr.cli.terminal import show_line

_SECONDS_BETWEEN = 30.0


class SimulationProgress:
    """Shows how many simulations are done, while there is work inside the block.

    A line is written also where nothing was finished meanwhile, so that a log tells
    work that is slow from work that has died.

    Args:
        num_simulations: How many there will be.
        num_done: How many were there before.
    """

    def __init__(self, num_simulations: int, num_done: int) -> None:
        self._total, self._before = num_simulations, num_done
        self._done, self._failed = num_done, 0
        self._started = time.monotonic()
        self._bar: tqdm | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write_lines, daemon=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total, initial=self._before, unit=" simulations"
            )
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._bar is not None:
            self._bar.close()
        else:
            self._thread.join()

    def update(self, num_done: int, num_failed: int) -> None:
        """Take in how many are done by now, and how many of them failed."""
        if self._bar is not None:
            self._bar.update(num_done - self._done)
            if num_failed:
                self._bar.set_postfix_str(f"{num_failed:,} failed")
        self._done, self._failed = num_done, num_failed

    def _write_lines(self) -> None:
        while not self._is_over.wait(_SECONDS_BETWEEN):
            show_line(self._describe())

    def _describe(self) -> str:
        seconds = time.monotonic() - self._started
        rate = (self._done - self._before) / seconds
        parts = [
            f"{time.strftime('%H:%M:%S')}  {self._done:,} of {self._total:,} "
            f"simulations, {self._failed:,} failed"
        ]
        if rate > 0:
            left = (self._total - self._done) / rate
            parts.append(f"{rate:.3g} a second, {show_duration(left)} left")
        return ", ".join(parts)


def show_duration(seconds: float) -> str:
    """Say how long something takes, in two units.

    Example:
        >>> [show_duration(s) for s in (8.2, 75, 3700, 200_000)]
        ['8 s', '1 min 15 s', '1 h 1 min', '2 d 7 h']
    """
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    whole = round(seconds)
    for (size, name), (next_size, next_name) in itertools.pairwise(units):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name} {rest} {next_name}"
    return f"{whole} s"
