"""Several fits at a time, each as far as the simulations that have come allow."""

import contextlib
from collections.abc import Callable, Iterable

from sbi_aalr.trainer.journal import Journal
from sbi_aalr.training.growing import GrowingRows
from sbi_aalr.training.history import History, raise_too_short
from sbi_aalr.training.loop import Fit


class RunningFit:
    """A fit that is done step by step.

    Args:
        fit: The fit.
        num_steps: Steps to take until the last simulation comes.

    Attributes:
        fit: The same.
    """

    def __init__(self, fit: Fit, num_steps: int) -> None:
        self.fit = fit
        self._steps, self._num_steps = fit.steps(), num_steps

    def is_behind(self, share: float | None) -> bool:
        """Whether there is a step to take, when a share of the simulations has come.

        Args:
            share: The share; None for all, after which there is no need to wait.
        """
        if self.fit.history is not None:
            return False
        return share is None or self.fit.num_steps < int(share * self._num_steps)

    def step(self) -> None:
        """Take a step, or end where there is none."""
        next(self._steps, None)

    def interrupt(self, error: KeyboardInterrupt) -> None:
        """End it as it is; without a history, if it had not begun."""
        with contextlib.suppress(StopIteration, KeyboardInterrupt):
            self._steps.throw(error)

    def close(self) -> None:
        """Leave it, whatever it was at."""
        self._steps.close()


class Runner:
    """Runs fits beside the simulations.

    Args:
        journal: Where they are written down.
        poll: Called after each step, to keep the simulator busy.

    Attributes:
        fits: The fits, by their numbers.
        histories: The histories of those that are over.
    """

    def __init__(self, journal: Journal, poll: Callable[[], object]) -> None:
        self._journal, self._poll = journal, poll
        self._interruption: KeyboardInterrupt | None = None
        self.fits: dict[int, RunningFit] = {}
        self.histories: dict[int, History] = {}

    def run(self, share: float, arrivals: Iterable[float], rows: GrowingRows) -> None:
        """Run them all.

        After Ctrl-C all that have begun are ended as they are.

        Args:
            share: Share of the simulations that has come.
            arrivals: The same whenever more have come.
            rows: What is trained on.
        """
        try:
            self._catch_up(share)
            for more in arrivals:
                self._catch_up(more)
            rows.is_complete = True
            self._catch_up(None)
        except KeyboardInterrupt as error:
            self._interruption = error
            for number, one in self.fits.items():
                one.interrupt(error)
                if one.fit.history is not None:
                    self.histories[number] = one.fit.history
        finally:
            for one in self.fits.values():
                one.close()

    def find_history(self, time_limit: float | None) -> History:
        """The history of the last fit that has one.

        Raises:
            KeyboardInterrupt: If none took a step before Ctrl-C.
            ValueError: If none took a step before the time was up.
        """
        found = [self.histories[i] for i in sorted(self.histories)]
        found = [history for history in found if history.losses]
        if not found and self._interruption is not None:
            raise self._interruption
        if not found:
            raise_too_short(time_limit)
        return found[-1]._replace(interruption=self._interruption)

    def _catch_up(self, share: float | None) -> None:
        """Let each take the steps that it may take by now."""
        for number, one in self.fits.items():
            while one.is_behind(share):
                one.step()
                history = one.fit.history
                if history is not None:
                    self.histories[number] = history
                    self._journal.finish(number, history, self._list_begun())
                else:
                    self._journal.write_if_due(self._list_begun())
                self._poll()

    def _list_begun(self) -> dict[int, Fit]:
        """Those in progress."""
        fits = {number: one.fit for number, one in self.fits.items()}
        return {n: fit for n, fit in fits.items() if fit.num_steps and not fit.history}
