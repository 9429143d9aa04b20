"""The one training loop, for streamed and for stored simulations.

It knows nothing of where batches come from or what the loss is. Budgets count
simulations; the learning rate follows the share of the budget that is spent, in
simulations or in seconds, whichever is spent sooner.
"""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.held_out import HeldOut, Loss
from sbi_aalr.training.history import History, Recorder
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.passes import Passes, detach
from sbi_aalr.training.progress import Bar
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.schedule import WeightAverage, compute_rate_factor

# Steps whose mean loss is shown.
_SHOWN_STEPS = 100


def fit(
    estimator: RatioEstimator,
    passes: Passes,
    *,
    recipe: Recipe,
    loss: Loss,
    clip_max_norm: float | None = None,
    time_limit: float | None = None,
    held_out: Iterable[Batch] | None = None,
    stop_after: int | None = None,
    show_progress_bars: bool = False,
) -> History:
    """Minimise the loss over passes of batches; the weights are averaged at the end.

    After Ctrl-C the estimator has the averaged weights of the last steps, or those of
    the best pass, and the history tells of the interruption, which is for the caller to
    raise again. Before the first step nothing is caught.

    Args:
        estimator: Fitted in place, on the device it is on.
        passes: Where batches come from.
        recipe: How to train; `num_passes` of None passes until `time_limit`, or until
            the held-out loss no longer falls.
        loss: What to train on.
        clip_max_norm: Largest norm of the gradient; None for no limit.
        time_limit: Seconds after which to end, the learning rate having come down and
            the held-out loss been measured. There may be too few for a single step.
        held_out: Batches never trained on. After each pass their loss is computed, with
            averaged weights; those of the pass with the least are kept.
        stop_after: Passes without a better held-out loss after which to end.
        show_progress_bars: Whether to show the loss and the simulations of each pass.

    Returns:
        The history of the fit.

    Raises:
        RuntimeError: If the loss becomes NaN or infinite.
    """
    num_passes = recipe.num_passes
    # First, as torch may take seconds to set up the first optimizer of a process.
    budget = _Budget(num_passes and num_passes * passes.num_simulations, time_limit)
    updates = _Updates(estimator, recipe, loss, clip_max_norm)
    recorder = Recorder(recipe.learning_rate)
    others = None if held_out is None else HeldOut(estimator, loss, held_out)
    is_finished, interruption = False, None
    with (
        Bar(passes.num_simulations, num_passes, show_progress_bars) as bar,
        _train_mode(estimator),
    ):
        if others is not None and time_limit is not None:
            # Measured once in vain, to know how many seconds to leave for it.
            others.measure()
        try:
            for index in itertools.count() if num_passes is None else range(num_passes):
                bar.begin_pass(index)
                budget.begin_pass(others.seconds if others is not None else 0.0)
                num_steps = recorder.num_steps
                is_finished = _run_pass(passes, updates, budget, recorder, bar)
                if others is not None and recorder.num_steps > num_steps:
                    with updates.average.applied():
                        bar.show(validation=others.end_pass())
                waited = others.passes_since_best if others is not None else 0
                if not is_finished or (stop_after is not None and waited >= stop_after):
                    break
        except KeyboardInterrupt as error:
            if not recorder.num_steps:
                raise
            is_finished, interruption = False, error
            recorder.end_pass()
    if others is None or not others.restore_best():
        updates.average.apply()
    losses = [] if others is None else others.losses
    return recorder.finish(losses, is_finished, interruption)


def _run_pass(
    passes: Iterable[Batch],
    updates: "_Updates",
    budget: "_Budget",
    recorder: Recorder,
    bar: Bar,
) -> bool:
    """Take a step for each batch; tell whether the budget was enough for all."""
    is_whole = True
    for batch in passes:
        if budget.measure_progress() >= 1:
            is_whole = False
            break
        factor = budget.compute_rate_factor()
        recorder.add_step(updates.take_step(detach(batch), factor), factor)
        budget.spend(len(batch.theta))
        # Reading a loss waits for the device, so look at it now and then only.
        if bar.is_due():
            recorder.check_finite()
            bar.show(loss=recorder.average_last(_SHOWN_STEPS))
        bar.update(len(batch.theta))
    if is_whole:
        bar.end_pass()
    recorder.end_pass()
    recorder.check_finite()
    return is_whole


class _Budget:
    """How much of the simulations and of the seconds is spent."""

    def __init__(self, num_simulations: int | None, time_limit: float | None) -> None:
        self._num_simulations = num_simulations
        self._time_limit = time_limit
        self._started = self._last = time.perf_counter()
        self._spent = 0
        self._reserved = self._step_seconds = 0.0

    def begin_pass(self, reserved: float) -> None:
        """Leave some seconds for what comes after the pass."""
        self._last = time.perf_counter()
        self._reserved, self._step_seconds = reserved, 0.0

    def spend(self, num_simulations: int) -> None:
        """Count the simulations of a step, and how long it took."""
        now = time.perf_counter()
        self._step_seconds, self._last = now - self._last, now
        self._spent += num_simulations

    def measure_progress(self) -> float:
        """Share that is spent, of what runs out sooner; above 1 if nothing is left."""
        progress = 0.0
        if self._num_simulations is not None:
            progress = self._spent / self._num_simulations
        if self._time_limit is not None:
            # The next step will take as long as the last. No more than a quarter, as
            # what is measured first may be much slower than it will be.
            reserved = min(self._reserved + self._step_seconds, self._time_limit / 4)
            elapsed = time.perf_counter() - self._started
            progress = max(progress, (elapsed + reserved) / self._time_limit)
        return progress

    def compute_rate_factor(self) -> float:
        """Factor of the learning rate; 1 if there is no end to come down to."""
        if self._num_simulations is None and self._time_limit is None:
            return 1.0
        progress = min(1.0, self.measure_progress())
        return compute_rate_factor(progress, self._num_simulations is not None)


class _Updates:
    """Steps of the optimizers down the loss, and the average of the weights."""

    def __init__(
        self,
        estimator: RatioEstimator,
        recipe: Recipe,
        loss: Loss,
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


@contextlib.contextmanager
def _train_mode(estimator: nn.Module) -> Iterator[None]:
    """Train inside, and leave an estimator that can be used, after Ctrl-C too."""
    estimator.train()
    try:
        yield
    finally:
        estimator.eval()
        estimator.zero_grad(set_to_none=True)
