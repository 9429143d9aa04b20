"""Lines that say how far something is, where no progress bar can be seen."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_SECONDS_BETWEEN = 30.0


@contextlib.contextmanager
def heartbeat(
    say: Callable[[str], object],
    tell: Callable[[float], str],
    seconds_between: float = _SECONDS_BETWEEN,
) -> Iterator[None]:
    """Say every half minute how far it is.

    Args:
        say: What to do with a line.
        tell: Seconds since the start -> the line.
        seconds_between: Seconds from one line to the next.
    """
    started, ended = time.perf_counter(), threading.Event()

    def beat() -> None:
        while not ended.wait(seconds_between):
            say(tell(time.perf_counter() - started))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
