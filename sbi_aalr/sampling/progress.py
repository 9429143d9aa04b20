"""A progress bar over observations that are sampled until they have converged."""

import time
from typing import Any

from tqdm.auto import tqdm

from sbi_aalr.mcmc.convergence import Convergence

_SECONDS_BETWEEN_UPDATES = 0.2


class Progress(tqdm):
    """Counts finished observations, and shows what is being done beside them.

    Args:
        num_observations: Number of observations.
        show: Whether to show anything at all.
    """

    def __init__(self, num_observations: int, show: bool) -> None:
        self._phase, self._steps, self._converged = "", 0, 0
        self._shown, self._stopped = time.monotonic(), False
        plural = "s" if num_observations > 1 else ""
        super().__init__(
            total=num_observations,
            desc=f"Sampling {num_observations} observation{plural}",
            unit=" observations",
            disable=not show,
        )

    def begin(self, phase: str) -> None:
        """Start to count the steps of another phase, which is shown by its name."""
        self._phase, self._steps = phase, 0

    def stop(self) -> None:
        """Make the next step, in whichever thread, the last one."""
        self._stopped = True

    def step(self, num_steps: int) -> None:
        """Count steps of the chains that are running.

        Raises:
            RuntimeError: If another thread has failed or was interrupted.
        """
        if self._stopped:
            raise RuntimeError("Sampling was stopped.")
        self._steps += num_steps
        if time.monotonic() - self._shown > _SECONDS_BETWEEN_UPDATES:
            self._show()

    def finish(self, num_observations: int, num_converged: int) -> None:
        """Count observations that are done, converged or given up."""
        self._converged += num_converged
        self.update(num_observations)
        self._show()

    def _show(self) -> None:
        if self.disable:
            return
        self._shown = time.monotonic()
        values: dict[str, Any] = {"converged": self._converged}
        if self._steps:
            values[self._phase] = f"{self._steps:,} steps"
        self.set_postfix(values)


def count_finished(bar: Progress, convergence: Convergence) -> None:
    """Show observations as done, and how many of them have converged."""
    bar.finish(len(convergence.converged), int(convergence.converged.sum()))
