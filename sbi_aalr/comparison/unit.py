"""The unit of work: one fit and the observations that it is used for."""

import contextlib
import io
import logging
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from torch import Tensor

from sbi_aalr.comparison.cost import (
    count_evaluations,
    read_peak_memory,
    reset_peak_memory,
)
from sbi_aalr.comparison.fits import FittedNetwork, fit_once
from sbi_aalr.comparison.methods import Method, build_posterior, draw
from sbi_aalr.comparison.metrics import measure_mixing, mmd, two_sample_scores
from sbi_aalr.comparison.rows import Key, has_row, write_row
from sbi_aalr.comparison.tasks import OBSERVATIONS, KnownObservation, Task, observe
from sbi_aalr.comparison.truth import truth_scores
from sbi_aalr.diagnostics.ratio_roc import ratio_roc
from sbi_aalr.seeding import seeded

_ROC_SIMULATIONS = 20_000


@dataclass(frozen=True)
class Unit:
    """One fit and the observations that it is used for.

    Attributes:
        folder: Folder of the comparison.
        task_name: Name of the task.
        task: The task.
        method_name: Name of the method.
        method: The method.
        budget: Simulations.
        seed: Seed of the fit and of sampling.
        observations: Numbers of the observations; one alone for a method with rounds.
        num_samples: Draws for each observation.
    """

    folder: Path
    task_name: str
    task: Task
    method_name: str
    method: Method
    budget: int
    seed: int
    observations: tuple[int, ...]
    num_samples: int

    def list_keys(self) -> list[Key]:
        """What identifies the rows of this unit."""
        names = self.task_name, self.method_name, self.budget
        return [Key(*names, index, self.seed) for index in self.observations]


def run_unit(unit: Unit) -> None:
    """Fit, then sample and score one observation after the other.

    Each row is written as soon as it is known. Whatever a method raises becomes the
    error of its row; if it is the fit that fails, of all rows. Only a full disk or
    memory is no result of a method, and stops the work.

    Args:
        unit: What to do.

    Raises:
        MemoryError: If memory runs out.
        OSError: If something cannot be read or written.
    """
    fitted: FittedNetwork | None = None
    fit_error = ""
    for key in unit.list_keys():
        if has_row(unit.folder, key):
            # Another run of the same comparison was quicker.
            continue
        metrics: dict[str, float] = {}
        error = fit_error
        if not fit_error:
            try:
                with _quiet():
                    observation = _observe(unit, key.observation)
                    if fitted is None:
                        try:
                            fitted = _fit(unit, observation)
                        except Exception as problem:
                            fit_error = _describe(problem)
                            raise
                    metrics["train_seconds"] = fitted.train_seconds
                    _sample(unit, fitted, observation, metrics)
            except Exception as problem:
                if _is_of_machine(problem):
                    raise
                error = _describe(problem)
        write_row(unit.folder, key, metrics, error)


def _is_of_machine(problem: Exception) -> bool:
    """Whether it says nothing of the method: no room on disk or in memory."""
    kinds = (OSError, MemoryError, torch.cuda.OutOfMemoryError)
    # torch has no class of its own for the memory of a CPU.
    return isinstance(problem, kinds) or "can't allocate memory" in str(problem)


def _describe(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"


def _observe(unit: Unit, index: int) -> KnownObservation:
    folder = unit.folder / OBSERVATIONS
    return observe(folder, unit.task_name, unit.task, index, unit.num_samples)


def _fit(unit: Unit, observation: KnownObservation) -> FittedNetwork:
    parts: list[Any] = [unit.task_name, unit.method_name, unit.budget, unit.seed]
    sequential = unit.method.rounds > 1
    if sequential:
        parts.append(unit.observations[0])
    folder = unit.folder / "fits" / "-".join(map(str, parts))
    x_o = observation.x if sequential else None
    return fit_once(folder, unit.method, unit.task, unit.budget, unit.seed, x_o)


def _sample(
    unit: Unit,
    fitted: FittedNetwork,
    observation: KnownObservation,
    metrics: dict[str, float],
) -> None:
    """Sample one observation, and add to the metrics as they become known."""
    reset_peak_memory()
    started = time.perf_counter()
    posterior = build_posterior(unit.method, unit.task, fitted.network)
    with seeded(unit.seed), count_evaluations(posterior) as counter:
        draws = draw(posterior, unit.num_samples, observation.x)
    metrics["sample_seconds"] = time.perf_counter() - started
    metrics["num_evaluations"] = counter.total
    metrics["peak_memory"] = max(fitted.peak_memory, read_peak_memory())
    metrics.update(measure_mixing(posterior, draws)._asdict())
    if observation.reference is not None:
        metrics.update(two_sample_scores(draws, observation.reference)._asdict())
        metrics["mmd"] = mmd(draws, observation.reference)
    elif isinstance(posterior.potential_fn, RatioBasedPotential):
        # Nothing exact to compare with: test the ratio by what it says of data.
        metrics["ratio_roc_auc"] = ratio_roc(
            posterior.potential_fn.ratio_estimator,
            unit.task.simulate,
            unit.task.prior,
            observation.theta,
            num_simulations=_ROC_SIMULATIONS,
            seed=unit.seed,
        ).auc
    with seeded(unit.seed), torch.no_grad():
        scores = truth_scores(
            partial(_log_posterior, posterior, observation.x),
            unit.task.prior,
            draws,
            observation.theta,
            generator=torch.Generator().manual_seed(unit.seed),
        )
    metrics.update(scores._asdict())


def _log_posterior(posterior: Any, x_o: Tensor, theta: Tensor) -> Tensor:
    log_density = posterior.potential(theta, x=x_o).reshape(-1)
    return torch.where(log_density.isnan(), -math.inf, log_density)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what sbi prints, logs and warns of away from the terminal.

    What it warns of most, chains and rejection that go badly, is in the table.
    """
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
