"""How a trainer logs: a check of what it is given, and a tracker that drops it all."""

import logging
from typing import Any

from torch.utils.tensorboard.writer import SummaryWriter

from sbi_aalr.checks import check_bool, check_choice, check_non_negative_int

# What a tracker is asked for, at the end of a fit.
_ACTS = ("log_metric", "log_params", "flush")


def check_logging(
    logging_level: object,
    summary_writer: object,
    tracker: object,
    show_progress_bars: object,
) -> dict[str, Any]:
    """Return what sbi is told of logs, or raise if a fit would fail of it at its end.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If there is no such level.
    """
    check_bool("show_progress_bars", show_progress_bars)
    if isinstance(logging_level, str):
        levels = [name.lower() for name in logging.getLevelNamesMapping()]
        check_choice("logging_level", logging_level.lower(), levels)
    else:
        logging_level = check_non_negative_int("logging_level", logging_level)
    if summary_writer is not None and not isinstance(summary_writer, SummaryWriter):
        raise TypeError(
            "`summary_writer` must be TensorBoard's SummaryWriter or None, got "
            f"{type(summary_writer).__name__}."
        )
    missing = [act for act in _ACTS if not callable(getattr(tracker, act, None))]
    if tracker is not None and (missing or isinstance(tracker, type)):
        raise TypeError(
            f"`tracker` must have the methods {', '.join(_ACTS)} of sbi's Tracker, got "
            f"{tracker!r:.60} of type {type(tracker).__name__}. None logs nothing."
        )
    return {
        "logging_level": logging_level,
        "summary_writer": summary_writer,
        "tracker": tracker,
        "show_progress_bars": show_progress_bars,
    }


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
