"""End a call that takes too long, wherever it runs.

In the main thread of a process an alarm does it. Elsewhere the call gets a thread of
its own, which is not waited for any longer and ends when it comes back to Python: it
must not draw from the global generators while others do. Code that never comes back
hears no alarm either; where the process may end, a timer that needs nobody's attention
ends it.
"""

import contextlib
import ctypes
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds by which the process ends after the alarm should have done.
_GRACE, _GRACE_SHARE = 1.0, 0.25
# Seconds after which a call that goes on is told again.
_AGAIN = 1.0


class TimeIsUp(BaseException):
    """Raised inside the call; no `except Exception` of a simulator stops it."""


def call_within(seconds: float | None, call: Callable[[], T], may_exit: bool) -> T:
    """Call a function, and give up after some seconds.

    Args:
        seconds: How many; None for no limit.
        call: What to call.
        may_exit: Whether this process may end if nothing else helps.

    Returns:
        What the call returned.

    Raises:
        TimeoutError: If it took longer.
    """
    if seconds is None:
        return call()
    with _exit_after(seconds, may_exit):
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and hasattr(signal, "setitimer"):
            return _call_with_alarm(seconds, call)
        return _call_in_thread(seconds, call)


def _call_with_alarm(seconds: float, call: Callable[[], T]) -> T:
    is_running = True

    def interrupt(*_: Any) -> None:
        if is_running:
            raise TimeIsUp

    before = signal.signal(signal.SIGALRM, interrupt)
    # Again and again, lest one be lost in a destructor.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        return call()
    except TimeIsUp:
        raise TimeoutError(f"took longer than {seconds:g} s") from None
    finally:
        is_running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _call_in_thread(seconds: float, call: Callable[[], T]) -> T:
    returned: list[T] = []
    raised: list[BaseException] = []
    ending = threading.Lock()

    def run() -> None:
        # Once more outside, as it may be raised where the first is left.
        with contextlib.suppress(TimeIsUp), contextlib.suppress(TimeIsUp):
            try:
                returned.append(call())
            except TimeIsUp:
                pass
            except BaseException as error:
                raised.append(error)
            # For good: nothing is raised in what comes after.
            ending.acquire()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        if thread.is_alive():
            threading.Thread(target=_end, args=[thread, ending], daemon=True).start()
    if raised:
        raise raised[0]
    if not returned:
        raise TimeoutError(f"took longer than {seconds:g} s")
    return returned[0]


def _end(thread: threading.Thread, ending: threading.Lock) -> None:
    """Raise in a thread whenever it comes back to Python, until it ends.

    Again and again, as code that catches all would go on.
    """
    while thread.is_alive():
        if ending.acquire(blocking=False):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeIsUp)
            )
            ending.release()
        thread.join(_AGAIN)


@contextlib.contextmanager
def _exit_after(seconds: float, may_exit: bool) -> Iterator[None]:
    if not may_exit:
        yield
        return
    wait = seconds + max(_GRACE, _GRACE_SHARE * seconds)
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(wait, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
