"""What a user may set about simulations that are made beside the training."""

import os
from concurrent.futures import Executor
from dataclasses import dataclass

from sbi_aalr.checks import (
    check_choice,
    check_executor,
    check_field,
    check_positive_float,
)
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulation.fill import ON_ERROR


@dataclass(frozen=True)
class Streaming:
    """Where simulations are made and kept.

    Args:
        executor: Any executor; None for this process.
        store: A store, or its path; None for none.
        on_error: `"raise"` or `"skip"`.
        timeout: Seconds that a batch may take; None for no limit.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one has a value that it cannot have.
    """

    executor: Executor | None = None
    store: SimulationStore | str | os.PathLike[str] | None = None
    on_error: str = "raise"
    timeout: float | None = None

    def __post_init__(self) -> None:
        check_executor(self.executor)
        if not isinstance(self.store, SimulationStore | str | os.PathLike | None):
            raise TypeError(
                "`store` must be a SimulationStore or a path, got "
                f"{type(self.store).__name__}."
            )
        check_choice("on_error", self.on_error, ON_ERROR)
        if self.timeout is not None:
            check_field(self, "timeout", check_positive_float)

    @property
    def is_wanted(self) -> bool:
        """Whether anything was set."""
        return self != Streaming()

    def open_store(self) -> SimulationStore | None:
        """The store, made where there is none yet."""
        if self.store is None or isinstance(self.store, SimulationStore):
            return self.store
        return SimulationStore(self.store)
