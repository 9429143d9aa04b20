"""Simulations never trained on: their loss after each pass, and the best pass."""

import contextlib
import copy
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.parcel import Parcel, label, select
from sbi_aalr.training.passes import detach
from sbi_aalr.training.ranks import average


class Loss(Protocol):
    """What is minimised, and measured on what is held out."""

    def of_batch(self, estimator: RatioEstimator, batch: Batch) -> Tensor:
        """Loss of each simulation of a batch, shape `(N,)`, nats."""
        ...


class HeldOut:
    """Measures the held-out loss, and remembers the weights of the least one.

    Args:
        estimator: The estimator that is trained.
        loss: What it is trained on.
        batches: Batches never trained on.

    Attributes:
        losses: Held-out loss after each pass, nats.
        seconds: How long it took to measure the last one.
    """

    def __init__(
        self, estimator: RatioEstimator, loss: Loss, batches: Iterable[Batch]
    ) -> None:
        self.losses: list[float] = []
        self.seconds = 0.0
        self._estimator = estimator
        self._loss = loss
        self._batches = batches
        self._best: _Best | None = None

    @property
    def passes_since_best(self) -> int:
        """Passes since the one with the least loss."""
        return len(self.losses) - 1 - self._best.pass_index if self._best else 0

    @torch.no_grad()
    def measure(self) -> float:
        """Mean loss of all batches with the weights as they are, nats."""
        started = time.perf_counter()
        with _eval_mode(self._estimator):
            means = [
                self._loss.of_batch(self._estimator, detach(batch)).mean()
                for batch in self._batches
            ]
        value = average(float(torch.stack(means).mean()))
        self.seconds = time.perf_counter() - started
        return value

    def end_pass(self) -> float:
        """Write down the loss of the weights as they are, and return it."""
        value = self.measure()
        if self._best is None or value < self._best.loss:
            weights = copy.deepcopy(self._estimator.state_dict())
            self._best = _Best(value, len(self.losses), weights)
        self.losses.append(value)
        return value

    def restore_best(self) -> bool:
        """Put the best weights in place; tell whether there were any."""
        if self._best is None:
            return False
        self._estimator.load_state_dict(self._best.weights)
        return True

    def pack(self) -> Parcel:
        """What `unpack` makes the same of."""
        losses = torch.tensor(self.losses, dtype=torch.float64)
        best = self._best
        facts = {
            "seconds": self.seconds,
            "best": None if best is None else [best.loss, best.pass_index],
        }
        weights = {} if best is None else label("best.", best.weights)
        return Parcel({"losses": losses, **weights}, facts)

    def unpack(self, parcel: Parcel) -> None:
        """Go on from what `pack` returned."""
        self.losses = parcel.tensors["losses"].tolist()
        self.seconds = parcel.facts["seconds"]
        if (best := parcel.facts["best"]) is not None:
            loss, pass_index = best
            self._best = _Best(loss, pass_index, select("best.", parcel.tensors))


class _Best(NamedTuple):
    """The pass with the least held-out loss so far, nats, and its weights."""

    loss: float
    pass_index: int
    weights: dict[str, Tensor]


@contextlib.contextmanager
def _eval_mode(estimator: nn.Module) -> Iterator[None]:
    estimator.eval()
    try:
        yield
    finally:
        estimator.train()
