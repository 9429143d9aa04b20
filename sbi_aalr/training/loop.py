"""The one training loop, for streamed and for stored simulations.

It knows nothing of where batches come from or what the loss is. Budgets count
simulations; the learning rate follows the share of the budget that is spent, in
simulations or in seconds, whichever is spent sooner.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.seeding import read_generators, set_generators
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.budget import Budget
from sbi_aalr.training.growing import GrowingPasses
from sbi_aalr.training.held_out import HeldOut, Loss
from sbi_aalr.training.history import History, Recorder
from sbi_aalr.training.parcel import Parcel, label, select
from sbi_aalr.training.passes import Passes, begin_pass, detach
from sbi_aalr.training.progress import Bar
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.updates import Updates

# Steps whose mean loss is shown.
_SHOWN_STEPS = 100


def fit(estimator: RatioEstimator, passes: Passes, **settings: Any) -> History:
    """Minimise the loss over passes of batches; the weights are averaged at the end.

    After Ctrl-C the estimator has the averaged weights of the last steps, or those of
    the best pass, and the history tells of the interruption, which is for the caller to
    raise again. Before the first step nothing is caught.

    Args:
        estimator: Fitted in place, on the device it is on.
        passes: Where batches come from.
        **settings: Those of `Fit`.

    Returns:
        The history of the fit.

    Raises:
        RuntimeError: If the loss becomes NaN or infinite.
    """
    return run_through(Fit(estimator, passes, **settings))


class Fit:
    """A fit that is done step by step, and can be taken up where another one was.

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
        name: What is fitted, for the progress bar.
        kept: What `pack` returned, of a fit with the same settings, to go on from.

    Attributes:
        history: The history, once it is over.
    """

    def __init__(
        self,
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
        name: str = "",
        kept: Parcel | None = None,
    ) -> None:
        self.history: History | None = None
        self._estimator, self._passes, self._kept = estimator, passes, kept
        self._num_passes, self._stop_after = recipe.num_passes, stop_after
        self._has_limit = time_limit is not None
        self._shows_progress, self._name = show_progress_bars, name
        num_simulations = passes.num_simulations
        # First, as torch may take seconds to set up the first optimizer of a process.
        self._budget = Budget(
            recipe.num_passes and recipe.num_passes * num_simulations, time_limit
        )
        self._updates = Updates(estimator, recipe, loss, clip_max_norm)
        self._recorder = Recorder(recipe.learning_rate)
        self._others = None
        if held_out is not None:
            self._others = HeldOut(estimator, loss, held_out)
        # The pass that is in progress, its batches so far, and the states of the
        # generators when it began.
        self._pass, self._num_batches = 0, 0
        self._states: dict[str, Any] = {}

    def steps(self) -> Generator[None, None, None]:
        """Do it; the other side has a look after each step."""
        others, recorder = self._others, self._recorder
        is_finished, interruption = False, None
        with (
            Bar(
                self._passes.num_simulations,
                self._num_passes,
                self._shows_progress,
                self._name,
            ) as bar,
            _train_mode(self._estimator),
        ):
            if self._kept is not None:
                self._unpack(self._kept)
            elif others is not None and self._has_limit:
                # Measured once in vain, to know how many seconds to leave for it.
                others.measure()
            try:
                while self._num_passes is None or self._pass < self._num_passes:
                    is_finished = yield from _run_pass(self, bar)
                    waited = others.passes_since_best if others is not None else 0
                    stop_after = self._stop_after
                    if not is_finished or (
                        stop_after is not None and waited >= stop_after
                    ):
                        break
                    self._pass, self._num_batches = self._pass + 1, 0
            except KeyboardInterrupt as error:
                if not recorder.num_steps:
                    raise
                is_finished, interruption = False, error
                recorder.end_pass()
        if others is None or not others.restore_best():
            self._updates.average.apply()
        losses = [] if others is None else others.losses
        num_planned = self._num_passes or self._stop_after
        self.history = recorder.finish(losses, num_planned, is_finished, interruption)

    @property
    def num_steps(self) -> int:
        """Steps taken so far, before it was taken up again too."""
        if self._kept is not None:
            return len(self._kept.tensors["recorder.losses"])
        return self._recorder.num_steps

    def pack(self) -> Parcel:
        """What there is after a step, but for the generators as they are then."""
        if self._kept is not None:
            return self._kept
        parts: dict[str, Any] = {
            "updates": self._updates,
            "recorder": self._recorder,
            "budget": self._budget,
        }
        if self._others is not None:
            parts["others"] = self._others
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Any] = {
            "pass": self._pass,
            "num_batches": self._num_batches,
            "states": self._states,
        }
        if isinstance(self._passes, GrowingPasses):
            facts["place"] = self._passes.pack()
        for name, part in parts.items():
            parcel = part.pack()
            tensors |= label(f"{name}.", parcel.tensors)
            facts[name] = parcel.facts
        return Parcel(tensors, facts)

    def _unpack(self, kept: Parcel) -> None:
        """Go on from what `pack` returned, with the generators as they are now."""
        device = next(self._estimator.parameters()).device
        tensors, facts = kept

        def take(name: str) -> Parcel:
            found = select(f"{name}.", tensors)
            found = {key: tensor.to(device) for key, tensor in found.items()}
            return Parcel(found, facts[name])

        self._updates.unpack(take("updates"))
        self._recorder.unpack(take("recorder"), device)
        self._budget.unpack(take("budget"))
        if self._others is not None:
            self._others.unpack(take("others"))
        self._pass, self._num_batches = facts["pass"], facts["num_batches"]
        self._states = facts["states"]
        if isinstance(self._passes, GrowingPasses):
            self._passes.unpack(facts["place"], self._num_batches)

    def _find_batches(self) -> Iterator[Batch]:
        """The batches of a pass, or those that are left of the one to go on with."""
        if self._kept is None or not self._num_batches:
            self._states = read_generators()
            return iter(self._passes)
        now = read_generators()
        set_generators(self._states)
        batches = begin_pass(self._passes, self._num_batches)
        set_generators(now)
        self._kept = None
        return batches


def run_through(fit: Fit, on_step: Callable[[], object] = lambda: None) -> History:
    """Do a fit to its end.

    Args:
        fit: The fit.
        on_step: Called after each step.

    Returns:
        Its history.
    """
    steps = fit.steps()
    for _ in steps:
        try:
            on_step()
        except KeyboardInterrupt as error:
            # As if it had come in the step.
            with contextlib.suppress(StopIteration):
                steps.throw(error)
            break
    if fit.history is None:
        raise RuntimeError("The fit has not come to an end.")
    return fit.history


def _run_pass(fit: Fit, bar: Bar) -> Generator[None, None, bool]:
    """Take a step for each batch; tell whether the budget was enough for all."""
    budget, recorder, others = fit._budget, fit._recorder, fit._others
    bar.begin_pass(fit._pass)
    budget.begin_pass(others.seconds if others is not None else 0.0)
    is_whole = True
    for batch in fit._find_batches():
        if budget.measure_progress() >= 1:
            is_whole = False
            break
        factor = budget.compute_rate_factor()
        recorder.add_step(fit._updates.take_step(detach(batch), factor), factor)
        budget.spend(len(batch.theta))
        # Reading a loss waits for the device, so look at it now and then only.
        if bar.is_due():
            recorder.check_finite()
            bar.show(loss=recorder.average_last(_SHOWN_STEPS))
        bar.update(len(batch.theta))
        fit._num_batches += 1
        yield
    if is_whole:
        bar.end_pass()
    has_steps = recorder.num_steps_in_pass > 0
    recorder.end_pass()
    recorder.check_finite()
    if others is not None and has_steps:
        with fit._updates.average.applied():
            bar.show(validation=others.end_pass())
    return is_whole


@contextlib.contextmanager
def _train_mode(estimator: nn.Module) -> Iterator[None]:
    """Train inside, and leave an estimator that can be used, after Ctrl-C too."""
    estimator.train()
    try:
        yield
    finally:
        estimator.eval()
        estimator.zero_grad(set_to_none=True)
