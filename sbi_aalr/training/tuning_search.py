"""The search for hyperparameters of one estimator: which rows tune, and how long.

All hyperparameters are logarithms or logits, so one learning rate suits them, and they
stay within bounds: a penalty that has once driven weights to zero has no gradient left
to come back by.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.optim import Adam

from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.held_out import Loss
from sbi_aalr.training.loaders import TensorLoader
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.tuning import Augmentation, RatioHyperparameters, Search

# Share of the rows that tune, the least and the most of them.
TUNING_SHARE, LEAST_TUNING, MOST_TUNING = 0.25, 10, 2_048
# Where those start that do not where they do alone; dropout at the network's rates.
_STARTS: dict[str, float | None] = {"weight_decay": 1e-3, "dropout": None}
# Bounds of logarithms, and of the logits of rates.
_BOUNDS = {
    "weight_decay": (math.log(1e-6), math.log(10.0)),
    "each_weight_decay": (math.log(1e-6), math.log(10.0)),
    "octaves": (math.log(0.03), math.log(30.0)),
    "dropout": (-3.0, 3.0),
    "theta_noise": (math.log(1e-3), 0.0),
    "x_noise": (math.log(1e-3), 0.0),
}
# Steps of the weights before each of the hyperparameters.
_INNER_STEPS = 3
# Learning rates of the hyperparameters, and of the weights of an augmentation network.
_RATE, _NETWORK_RATE = 0.2, 0.003
# Rows that tune in one step; where there are more, they take turns.
_ROWS_OF_A_STEP = 512
# Tuning losses, at least, whose mean decides which step was best; whole turns of them.
_AVERAGED = 8


class TuningRows(NamedTuple):
    """Rows of a fit in two parts, none of them held out.

    Attributes:
        theta: Parameters of both, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.
        training: Numbers of the rows that train in the search, shape `(n,)`.
        tuning: Numbers of those that tune, shape `(m,)`.
    """

    theta: Tensor
    x: Tensor
    training: Tensor
    tuning: Tensor


def check_enough(num_rows: int) -> None:
    """Raise if of so many rows, none of them held out, too few would tune."""
    least = math.ceil(LEAST_TUNING / TUNING_SHARE)
    if num_rows < least:
        raise ValueError(
            f"`tune` needs at least {least} simulations that are not held out, got "
            f"{num_rows}. Simulate more, or train without."
        )


def split_for_tuning(theta: Tensor, x: Tensor, seed: int) -> TuningRows:
    """Split rows at random into those that train and those that tune."""
    num_tuning = min(int(TUNING_SHARE * len(theta)), MOST_TUNING)
    order = torch.randperm(len(theta), generator=torch.Generator().manual_seed(seed))
    return TuningRows(theta, x, order[num_tuning:], order[:num_tuning])


class TunedLoss:
    """A loss with what hyperparameters add to it in training, and without in `eval()`.

    Args:
        loss: The loss without.
        knobs: The hyperparameters.
    """

    def __init__(self, loss: Loss, knobs: RatioHyperparameters) -> None:
        self._loss, self._knobs = loss, knobs

    def of_batch(self, estimator: RatioEstimator, batch: Batch) -> Tensor:
        """Loss of each simulation of a batch, shape `(N,)`, nats."""
        if not estimator.training:
            return self._loss.of_batch(estimator, batch)
        theta, x = self._knobs.perturb(batch.theta, batch.x)
        moved = self._loss.of_batch(estimator, batch._replace(theta=theta, x=x))
        return moved + self._knobs.penalise(estimator)


class Found(NamedTuple):
    """What a search has found.

    Attributes:
        estimator: The estimator as it was at the best step, in training.
        knobs: The hyperparameters of that step, attached to nothing.
        starts: Least, median and greatest value of each at the start, by name.
        num_steps: Steps of the hyperparameters.
        tuning_loss: Loss of the rows that tune at that step, nats, a mean over a few.
    """

    estimator: RatioEstimator
    knobs: RatioHyperparameters
    starts: dict[str, tuple[float, float, float]]
    num_steps: int
    tuning_loss: float


def search_hyperparameters(
    names: Sequence[str],
    estimator: RatioEstimator,
    rows: TuningRows,
    loss: Loss,
    recipe: Recipe,
    *,
    num_passes: int,
    seed: int,
    time_limit: float | None = None,
    clip_max_norm: float | None = None,
    show_progress_bars: bool = False,
) -> Found:
    """Search for hyperparameters, on copies of an estimator's weights.

    Args:
        names: What to tune.
        estimator: The estimator, as it is before training; it is not changed.
        rows: The rows that train and those that tune.
        loss: The training loss without hyperparameters, and the held-out loss.
        recipe: How to train.
        num_passes: Passes over the rows that train.
        seed: Seed of all random numbers.
        time_limit: Seconds after which to end; None for no limit.
        clip_max_norm: Largest norm of the gradient; None for no limit.
        show_progress_bars: Whether to show the loss of the rows that tune.

    Returns:
        The hyperparameters of the step with the least loss of the rows that tune.

    Raises:
        ValueError: If a loss has no hypergradient, or not a finite one; if the passes
            or the time are enough for a few steps only.
    """
    model = copy.deepcopy(estimator)
    with seeded(seed):
        starts = {name: _STARTS[name] for name in names if name in _STARTS}
        knobs = RatioHyperparameters(names, model, rows.theta, rows.x, starts)
    tuned = TunedLoss(loss, knobs)
    size = min(recipe.batch_size, len(rows.training))
    # As many steps of the weights as the plain fit takes.
    num_steps = num_passes * (len(rows.training) // size) // _INNER_STEPS
    batches = _repeat(rows, size)
    turns = _cut(rows, recipe.batch_size)

    def compute_training_loss() -> Tensor:
        return tuned.of_batch(model, next(batches)).mean()

    def compute_tuning_loss() -> Tensor:
        # Contrasts of a network that is not separable are drawn.
        held_out = turns[len(search.history) % len(turns)]
        with seeded(seed):
            means = [loss.of_batch(model, batch).mean() for batch in held_out]
        mean = torch.stack(means).mean()
        if mean.requires_grad:
            losses.append(float(mean.detach()))
        return mean

    losses: list[float] = []
    optimizer = Adam(_group(knobs), betas=(0.9, 0.99))
    search = Search(
        model,
        knobs,
        compute_training_loss,
        compute_tuning_loss,
        optimizer=build_optimizers(model, recipe),
        hyperparameter_optimizer=optimizer,
        inner_steps=_INNER_STEPS,
        # One term of the series: far from a minimum more say little more, and cost as
        # much as so many more steps.
        inverse="identity",
        clip_max_norm=clip_max_norm,
        seed=seed,
    )
    first = knobs.summarise()
    averaged = -(-_AVERAGED // len(turns)) * len(turns)
    _check_steps(num_steps, averaged, "The passes leave")
    best = _Best(averaged, model, knobs)

    def end_step(*_: object) -> None:
        # Those of the step have been measured, and are about to be left behind.
        _bound(knobs)

    optimizer.register_step_pre_hook(lambda *_: best.look(losses[-1]))
    optimizer.register_step_post_hook(end_step)
    knobs.attach(model)
    try:
        history = search.run(
            num_steps, time_limit=time_limit, show_progress_bars=show_progress_bars
        )
    finally:
        knobs.detach()
    _check_steps(len(history), averaged, "The time limit leaves")
    best.restore()
    return Found(model, knobs, first, len(history), best.loss)


def _check_steps(num_steps: int, least: int, leaves: str) -> None:
    """Raise if there is no mean to tell the best step by."""
    if num_steps < least:
        raise ValueError(
            f"{leaves} {num_steps} steps to tune in, each after {_INNER_STEPS} "
            f"of the weights, and it takes at least {least}. Train for longer."
        )


class _Best:
    """The step with the least loss of the rows that tune, a mean over the last few.

    Weights on their way scatter, and so does the loss of a single step.
    """

    def __init__(self, num_averaged: int, *modules: nn.Module) -> None:
        self.loss, self._num_averaged = math.inf, num_averaged
        self._modules = modules
        self._states: list[dict[str, Tensor]] = []
        self._last: list[float] = []

    def look(self, loss: float) -> None:
        """Remember the modules as they are if this is the best step so far."""
        self._last = [*self._last, loss][-self._num_averaged :]
        mean = sum(self._last) / len(self._last)
        if len(self._last) == self._num_averaged and mean < self.loss:
            self.loss = mean
            self._states = [copy.deepcopy(m.state_dict()) for m in self._modules]

    def restore(self) -> None:
        """Put the best step's in place."""
        for module, state in zip(self._modules, self._states, strict=True):
            module.load_state_dict(state)


def _repeat(rows: TuningRows, size: int) -> Iterator[Batch]:
    """Batches of the rows that train, without end."""
    loader = TensorLoader((rows.theta, rows.x), rows.training, size)
    while True:
        for theta, x in loader:
            yield Batch(theta, None, x)


def _cut(rows: TuningRows, size: int) -> list[list[Batch]]:
    """All rows that tune, in batches of about that size, as they take turns."""
    count = max(1, round(len(rows.tuning) / size))
    batches = [
        Batch(rows.theta[part], None, rows.x[part])
        for part in rows.tuning.tensor_split(count)
    ]
    num_turns = max(1, len(rows.tuning) // _ROWS_OF_A_STEP)
    return [batches[turn::num_turns] for turn in range(min(num_turns, count))]


def _group(knobs: RatioHyperparameters) -> list[dict]:
    """Hyperparameters with their learning rates."""
    return [
        {
            "params": list(part.parameters()),
            "lr": _NETWORK_RATE if isinstance(part, Augmentation) else _RATE,
        }
        for part in knobs.parts.values()
    ]


@torch.no_grad()
def _bound(knobs: RatioHyperparameters) -> None:
    """Keep hyperparameters from where no gradient brings them back."""
    for name, part in knobs.parts.items():
        if name in _BOUNDS:
            for parameter in part.parameters():
                parameter.clamp_(*_BOUNDS[name])
