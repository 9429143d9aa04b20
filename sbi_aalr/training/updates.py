"""Steps of the optimizers down the loss, and the average of the weights."""

from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.held_out import Loss
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.parcel import Parcel, label, select
from sbi_aalr.training.ranks import average_gradients
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.training.schedule import WeightAverage


class Updates:
    """Takes steps.

    Args:
        estimator: Fitted in place.
        recipe: Learning rates and weight decay.
        loss: What to train on.
        clip_max_norm: Largest norm of the gradient; None for no limit.

    Attributes:
        average: The average of the weights.
    """

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
        average_gradients(self._weights)
        if self._clip_max_norm is not None:
            clip_grad_norm_(self._weights, self._clip_max_norm, foreach=True)
        for optimizer in self._optimizers:
            optimizer.step()
        self.average.update()
        return loss.detach()

    def pack(self) -> Parcel:
        """The weights, those of the average and what the optimizers remember."""
        average = self.average.pack()
        tensors = label("estimator.", self._estimator.state_dict())
        tensors |= label("average.", average.tensors)
        for number, optimizer in enumerate(self._optimizers):
            for place, kept in optimizer.state_dict()["state"].items():
                tensors |= label(f"optimizer.{number}.{place}.", kept)
        return Parcel(tensors, average.facts)

    def unpack(self, parcel: Parcel) -> None:
        """Go on from what `pack` returned."""
        tensors = parcel.tensors
        self._estimator.load_state_dict(select("estimator.", tensors))
        self.average.unpack(Parcel(select("average.", tensors), parcel.facts))
        for number, optimizer in enumerate(self._optimizers):
            state: dict[int, dict[str, Any]] = {}
            for name, tensor in select(f"optimizer.{number}.", tensors).items():
                place, _, kept = name.partition(".")
                state.setdefault(int(place), {})[kept] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
