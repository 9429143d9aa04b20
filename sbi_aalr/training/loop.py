"""The one training loop, for streamed and for stored simulations.

It knows nothing of where batches come from or what the loss is. Budgets count
simulations; the learning rate follows the share of the budget that is spent, in
simulations or in seconds, whichever is spent sooner.
"""

import contextlib
import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from tqdm.auto import tqdm

from sbi_aalr.networks import GatedBlock
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.muon import Muon
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.schedule import WeightAverage, compute_rate_factor

_SECONDS_BETWEEN_LOOKS = 0.3


class History(NamedTuple):
    """What happened in a fit.

    Attributes:
        losses: Mean loss of each batch before its update, nats.
        learning_rates: Learning rate of each update.
        pass_losses: Mean loss of each pass, nats.
        validation_losses: Held-out loss after each pass, nats; empty without one.
        pass_seconds: Wall time of each pass.
        seconds: Wall time of the whole fit.
        is_finished: Whether it ended by itself: its passes were done, or the held-out
            loss no longer fell. False where the time was up.
    """

    losses: list[float]
    learning_rates: list[float]
    pass_losses: list[float]
    validation_losses: list[float]
    pass_seconds: list[float]
    seconds: float
    is_finished: bool


def fit(
    estimator: RatioEstimator,
    passes: Passes,
    *,
    recipe: Recipe,
    loss: RatioLoss,
    clip_max_norm: float | None,
    time_limit: float | None = None,
    validate: Callable[[], float] | None = None,
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
        validate: Held-out loss of the estimator as it is; computed after each pass,
            with averaged weights. The best weights are kept.
        stop_after: Passes without a better held-out loss after which to end.
        show_progress_bars: Whether to show the loss, simulations and batches a second.

    Returns:
        The history of the fit.

    Raises:
        RuntimeError: If the loss becomes NaN or infinite.
    """
    run = _Run(estimator, passes.num_simulations, recipe, loss, clip_max_norm)
    run.time_limit = time_limit
    best: tuple[float, int, dict[str, Tensor]] | None = None
    validation_losses: list[float] = []
    is_finished = False
    with run.show(show_progress_bars), _train_mode(estimator):
        for index in range(recipe.num_passes or 2**62):
            is_whole = run.run_pass(passes, index)
            if validate is not None and run.step:
                with run.average.applied(), _eval_mode(estimator):
                    value = validate()
                    validation_losses.append(value)
                    run.look(validation=value)
                    if best is None or value < best[0]:
                        best = value, index, copy.deepcopy(estimator.state_dict())
            waited = 0 if best is None else index - best[1]
            is_finished = is_whole
            if not is_whole or (stop_after is not None and waited >= stop_after):
                break
    if best is not None:
        estimator.load_state_dict(best[2])
    else:
        run.average.apply()
    return run.tell(validation_losses, is_finished)


class _Run:
    """The state of one fit between its batches."""

    def __init__(
        self,
        estimator: RatioEstimator,
        num_simulations: int,
        recipe: Recipe,
        loss: RatioLoss,
        clip_max_norm: float | None,
    ) -> None:
        self._estimator = estimator
        self._recipe = recipe
        self._loss = loss
        self._clip_max_norm = clip_max_norm
        self._weights = [p for p in estimator.parameters() if p.requires_grad]
        self._optimizers = build_optimizers(estimator, recipe)
        self.average = WeightAverage(estimator)
        self.time_limit: float | None = None
        passes = recipe.num_passes
        self._budget = num_simulations * passes if passes else None
        self._started = self._looked = time.perf_counter()
        self._seen = 0
        self.step = 0
        self._losses: list[Tensor] = []
        self._rates: list[float] = []
        self._ends: list[tuple[int, float]] = []
        self._shown: dict[str, str] = {}

    def run_pass(self, passes: Passes, index: int) -> bool:
        """Take a step for each batch; tell whether the pass was a whole one."""
        for batch in passes.open(index):
            progress = self._measure_progress()
            if progress >= 1:
                break
            factor = 1.0
            if self._budget is not None or self.time_limit is not None:
                factor = compute_rate_factor(progress)
            self._take_step(batch, factor)
        else:
            progress = 0.0
        self._ends.append((self.step, time.perf_counter()))
        self._check_finite()
        return progress < 1

    def _measure_progress(self) -> float:
        """Share of the budget that is spent."""
        share = self._seen / self._budget if self._budget else 0.0
        if self.time_limit is not None:
            elapsed = time.perf_counter() - self._started
            share = max(share, elapsed / self.time_limit)
        return share

    def _take_step(self, batch: Batch, factor: float) -> None:
        loss = self._loss.of_batch(self._estimator, batch).mean()
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["initial_lr"]
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._clip_max_norm is not None:
            clip_grad_norm_(self._weights, self._clip_max_norm, foreach=True)
        for optimizer in self._optimizers:
            optimizer.step()
        self.average.update()
        self._losses.append(loss.detach())
        self._rates.append(factor * self._recipe.learning_rate)
        self.step += 1
        self._seen += len(batch.theta)
        now = time.perf_counter()
        # Reading a loss waits for the device, so look at it now and then only.
        if now - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._check_finite()
            self.look(loss=float(torch.stack(self._losses[-100:]).mean()))
        self._bar.update(len(batch.theta))

    def _check_finite(self) -> None:
        recent = torch.stack(self._losses[-1000:]).tolist() if self._losses else []
        for index, value in enumerate(recent, start=self.step - len(recent)):
            if not math.isfinite(value):
                raise RuntimeError(
                    f"The loss became {value} at step {index + 1}. Lower "
                    f"`learning_rate` (now {self._recipe.learning_rate}) or scale `x`."
                )

    @contextlib.contextmanager
    def show(self, show_progress_bars: bool) -> Iterator[None]:
        """Show a bar inside."""
        with tqdm(
            total=self._budget,
            desc="Fitting AALR",
            unit=" simulations",
            unit_scale=True,
            disable=not show_progress_bars,
            mininterval=0.5,
        ) as self._bar:
            yield

    def look(self, **values: float) -> None:
        """Show values, and how many batches a second there have been."""
        self._shown |= {name: f"{value:.4f}" for name, value in values.items()}
        speed = self.step / (time.perf_counter() - self._started)
        self._bar.set_postfix_str(
            ", ".join(f"{name}={value}" for name, value in self._shown.items())
            + f", {speed:.1f} batches/s",
            refresh=False,
        )

    def tell(self, validation_losses: list[float], is_finished: bool) -> History:
        """Write down what happened."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        starts = [0, *(end for end, _ in self._ends)]
        clock = [self._started, *(at for _, at in self._ends)]
        spans = [losses[a:b] for a, b in itertools.pairwise(starts) if b > a]
        return History(
            losses=losses,
            learning_rates=self._rates,
            pass_losses=[sum(span) / len(span) for span in spans],
            validation_losses=validation_losses,
            pass_seconds=[b - a for a, b in itertools.pairwise(clock)],
            seconds=time.perf_counter() - self._started,
            is_finished=is_finished,
        )


def build_optimizers(estimator: nn.Module, recipe: Recipe) -> list[Optimizer]:
    """Muon for the matrices of gated blocks, AdamW for all other weights.

    Args:
        estimator: Whose weights to train.
        recipe: Learning rates and weight decay.

    Returns:
        One or two optimizers, whose groups remember their `initial_lr`.
    """
    matrices: list[Tensor] = [
        layer.weight
        for block in estimator.modules()
        if isinstance(block, GatedBlock)
        for layer in (block.up, block.down)
        if layer.weight.requires_grad
    ]
    taken = set(map(id, matrices))
    others = [
        p for p in estimator.parameters() if p.requires_grad and id(p) not in taken
    ]
    decay = recipe.weight_decay
    optimizers: list[Optimizer] = []
    if others:
        adam: dict[str, Any] = {"betas": (0.9, 0.99), "fused": True}
        rate = recipe.learning_rate
        optimizers.append(AdamW(others, rate, weight_decay=decay, **adam))
    if matrices:
        rate = recipe.matrix_learning_rate
        optimizers.append(Muon(matrices, rate, weight_decay=decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


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
