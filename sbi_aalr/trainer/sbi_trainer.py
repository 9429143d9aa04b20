"""sbi's ratio trainer without its prints and its log folder.

sbi opens a TensorBoard folder `./sbi-logs` wherever a trainer is constructed, and
prints while it trains. Here nothing is written unless a tracker is given, and progress
is a bar that can be switched off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sbi.inference.trainers.nre.nre_base import RatioEstimatorTrainer
from sbi.sbi_types import Tracker


class NoTracker:
    """sbi's `Tracker` protocol without a destination."""

    log_dir: str | None = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Drop one metric."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Drop metrics."""

    def log_params(self, params: dict[str, Any]) -> None:
        """Drop parameters."""

    def add_figure(self, name: str, figure: Any, step: int | None = None) -> None:
        """Drop a figure."""

    def flush(self) -> None:
        """Nothing is pending."""


class QuietTrainer(RatioEstimatorTrainer):
    """A ratio trainer that shows progress as a bar and keeps no logs unasked."""

    def _default_tracker(self) -> Tracker:
        return NoTracker()

    def _record(self, history: Mapping[str, Sequence[float]]) -> None:
        """Add to the summary and write the same into the tracker."""
        starts = {}
        for name, values in history.items():
            earlier = self._summary.setdefault(name, [])
            starts[name] = len(earlier)
            earlier.extend(values)
        self._track(history, starts)

    def _track(
        self, metrics: Mapping[str, Sequence[float]], starts: Mapping[str, int]
    ) -> None:
        for name, values in metrics.items():
            for step, value in enumerate(values, start=starts[name]):
                self._tracker.log_metric(name, value, step=step)
        self._tracker.flush()
