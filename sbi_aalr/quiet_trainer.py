"""sbi's ratio trainer without its prints and its log folder.

sbi opens a TensorBoard folder `./sbi-logs` wherever a trainer is constructed, and
prints while it trains. Here nothing is written unless a tracker is given, and progress
is a bar that can be switched off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sbi.inference.trainers.nre.nre_base import RatioEstimatorTrainer
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.sbi_types import Tracker
from tqdm.auto import tqdm


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

    def _run_training_loop(self, *args: Any, **kwargs: Any) -> RatioEstimator:
        self._tracked = {name: len(values) for name, values in self._summary.items()}
        with tqdm(
            desc="Fitting AALR", unit=" epochs", disable=not self._show_progress_bars
        ) as self._bar:
            try:
                return super()._run_training_loop(*args, **kwargs)
            finally:
                del self._bar

    def _summarize_epoch(self, train_loss: float, val_loss: float, *rest: Any) -> None:
        super()._summarize_epoch(train_loss, val_loss, *rest)
        self._bar.set_postfix(loss=f"{train_loss:.4f}", validation=f"{val_loss:.4f}")
        self._bar.update()

    def _summarize(self, round_: int) -> None:
        """Write what this run added to the summary into the tracker.

        sbi finds where a run began from the epochs before it, which is wrong after
        `train_online` or with `resume_training`.
        """
        starts = self._tracked
        new = {name: self._summary[name][start:] for name, start in starts.items()}
        for name in ("epochs_trained", "best_validation_loss"):
            self._tracker.log_metric(name, new.pop(name)[-1], step=round_ + 1)
        self._track(new, starts)

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

    @staticmethod
    def _maybe_show_progress(show: bool, epoch: int) -> None:
        """Do nothing: sbi prints here, and the bar shows the same."""

    def _report_convergence_at_end(self, epoch: int, max_num_epochs: int) -> None:
        """Warn where sbi warns, and keep quiet where it prints."""
        if epoch > max_num_epochs:
            super()._report_convergence_at_end(epoch, max_num_epochs)
