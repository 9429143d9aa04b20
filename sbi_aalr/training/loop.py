"""The one training loop, for streamed and for stored simulations.

It knows nothing of where batches come from or what the loss is. Budgets count
simulations; the learning rate follows the share of the budget that is spent, in
simulations or in seconds, whichever is spent sooner.
"""

import contextlib
import copy
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.history import History, Recorder
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.schedule import WeightAverage, compute_rate_factor

_SECONDS_BETWEEN_LOOKS = 0.3
# Steps whose mean loss is shown.
_SHOWN_STEPS = 100


def fit(
    estimator: RatioEstimator,
    passes: Passes,
    *,
    recipe: Recipe,
    loss: RatioLoss,
    clip_max_norm: float | None = None,
    time_limit: float | None = None,
    held_out: Iterable[Batch] | None = None,
    stop_after: int | None = None,
    show_progress_bars: bool = False,
) -> History:
    """Minimise the loss over passes of batches; the weights are averaged at the end.

    Args:
        estimator: Fitted in place, on the device it is on.
        passes: Where batches come from.
        recipe: How to train; `num_passes` of None passes until `time_limit`.
        loss: What to train on.
        clip_max_norm: Largest norm of the gradient; None for no limit.
        time_limit: Seconds after which to end, the learning rate having come down.
        held_out: Batches never trained on. After each pass their loss is computed, with
            averaged weights; those of the pass with the least are kept.
        stop_after: Passes without a better held-out loss after which to end.
        show_progress_bars: Whether to show the loss, simulations and batches a second.

    Returns:
        The history of the fit.

    Raises:
        RuntimeError: If the loss becomes NaN or infinite.
    """
    updates = _Updates(estimator, recipe, loss, clip_max_norm)
    recorder = Recorder(recipe.learning_rate)
    num_passes = recipe.num_passes
    num_simulations = num_passes and num_passes * passes.num_simulations
    budget = _Budget(num_simulations, time_limit)
    best: _Best | None = None
    is_finished = False
    with (
        _Bar(num_simulations, show_progress_bars) as bar,
        _train_mode(estimator),
    ):
        for index in itertools.count() if num_passes is None else range(num_passes):
            is_finished = _run_pass(passes, updates, budget, recorder, bar)
            if held_out is not None and recorder.num_steps:
                with updates.average.applied(), _eval_mode(estimator):
                    value = _measure_loss(estimator, loss, held_out)
                    recorder.validation_losses.append(value)
                    bar.show(recorder.num_steps, validation=value)
                    if best is None or value < best.loss:
                        weights = copy.deepcopy(estimator.state_dict())
                        best = _Best(value, index, weights)
            waited = index - best.pass_index if best is not None else 0
            if not is_finished or (stop_after is not None and waited >= stop_after):
                break
    if best is not None:
        estimator.load_state_dict(best.weights)
    else:
        updates.average.apply()
    return recorder.finish(is_finished)


def _run_pass(
    passes: Iterable[Batch],
    updates: "_Updates",
    budget: "_Budget",
    recorder: Recorder,
    bar: "_Bar",
) -> bool:
    """Take a step for each batch; tell whether the budget was enough for all."""
    is_whole = True
    for batch in passes:
        progress = budget.measure_progress()
        if progress >= 1:
            is_whole = False
            break
        factor = compute_rate_factor(progress) if budget.is_limited else 1.0
        recorder.add_step(updates.take_step(batch, factor), factor)
        budget.spend(len(batch.theta))
        # Reading a loss waits for the device, so look at it now and then only.
        if bar.is_due():
            recorder.check_finite()
            bar.show(recorder.num_steps, loss=recorder.average_last(_SHOWN_STEPS))
        bar.update(len(batch.theta))
    recorder.end_pass()
    recorder.check_finite()
    return is_whole


class _Best(NamedTuple):
    """The pass with the least held-out loss so far, nats, and its weights."""

    loss: float
    pass_index: int
    weights: dict[str, Tensor]


class _Budget:
    """How much of the simulations and of the seconds is spent."""

    def __init__(self, num_simulations: int | None, time_limit: float | None) -> None:
        self._num_simulations = num_simulations
        self._time_limit = time_limit
        self._started = time.perf_counter()
        self._spent = 0
        self.is_limited = num_simulations is not None or time_limit is not None

    def spend(self, num_simulations: int) -> None:
        self._spent += num_simulations

    def measure_progress(self) -> float:
        """Share that is spent, of what runs out sooner; above 1 if nothing is left."""
        progress = 0.0
        if self._num_simulations is not None:
            progress = self._spent / self._num_simulations
        if self._time_limit is not None:
            elapsed = time.perf_counter() - self._started
            progress = max(progress, elapsed / self._time_limit)
        return progress


class _Updates:
    """Steps of the optimizers down the loss, and the average of the weights."""

    def __init__(
        self,
        estimator: RatioEstimator,
        recipe: Recipe,
        loss: RatioLoss,
        clip_max_norm: float | None,
    ) -> None:
        self._estimator = estimator
        self._loss = loss
        self._clip_max_norm = clip_max_norm
        self._weights = [p for p in estimator.parameters() if p.requires_grad]
        self._optimizers = build_optimizers(estimator, recipe)
        self.average = WeightAverage(estimator)

    def take_step(self, batch: Batch, rate_factor: float) -> Tensor:
        """Take a step at a share of the learning rates; return the loss before it."""
        loss = self._loss.of_batch(self._estimator, batch).mean()
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_factor * group["initial_lr"]
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip_max_norm is not None:
            clip_grad_norm_(self._weights, self._clip_max_norm, foreach=True)
        for optimizer in self._optimizers:
            optimizer.step()
        self.average.update()
        return loss.detach()


class _Bar:
    """A progress bar with the last values of what is shown."""

    def __init__(self, num_simulations: int | None, show_progress_bars: bool) -> None:
        self._values: dict[str, str] = {}
        self._started = self._looked = time.perf_counter()
        self._bar = tqdm(
            total=num_simulations,
            desc="Fitting AALR",
            unit=" simulations",
            unit_scale=True,
            disable=not show_progress_bars,
            mininterval=0.5,
        )
        self.update = self._bar.update

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def is_due(self) -> bool:
        """Whether it is time to show new values."""
        now = time.perf_counter()
        is_due = now - self._looked > _SECONDS_BETWEEN_LOOKS
        if is_due:
            self._looked = now
        return is_due

    def show(self, num_steps: int, **values: float) -> None:
        """Show values, and how many batches a second there have been."""
        self._values |= {name: f"{value:.4f}" for name, value in values.items()}
        speed = num_steps / (time.perf_counter() - self._started)
        shown = ", ".join(f"{name}={value}" for name, value in self._values.items())
        self._bar.set_postfix_str(f"{shown}, {speed:.1f} batches/s", refresh=False)


@torch.no_grad()
def _measure_loss(
    estimator: RatioEstimator, loss: RatioLoss, batches: Iterable[Batch]
) -> float:
    """Mean loss of batches, nats."""
    means = [loss.of_batch(estimator, batch).mean() for batch in batches]
    return float(torch.stack(means).mean())


@contextlib.contextmanager
def _train_mode(estimator: nn.Module) -> Iterator[None]:
    """Train inside, and leave an estimator that can be used, after Ctrl-C too."""
    estimator.train()
    try:
        yield
    finally:
        estimator.eval()
        estimator.zero_grad(set_to_none=True)


@contextlib.contextmanager
def _eval_mode(estimator: nn.Module) -> Iterator[None]:
    estimator.eval()
    try:
        yield
    finally:
        estimator.train()
