"""What training on streamed and on stored simulations have in common."""

import contextlib
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.checks import check_positive_float, check_positive_int, check_row_shapes
from sbi_aalr.networks import is_separable
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.trainer.posterior_builder import PosteriorBuilder
from sbi_aalr.training.classifiers import build_for_budget
from sbi_aalr.training.loop import History, fit
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ratio_loss import RatioLoss, choose_loss
from sbi_aalr.training.recipe import Recipe, choose_recipe


class BaseTrainer(PosteriorBuilder):
    """A ratio trainer that builds a network and fits it by a recipe."""

    # sbi has None here before the first network is built.
    _neural_net: Any
    _ratio_loss: RatioLoss | None = None

    def _build(
        self,
        theta: Tensor,
        x: Tensor,
        num_simulations: int,
        time_limit: float | None,
    ) -> RatioEstimator:
        """Build a network from a first batch on the CPU, for a budget."""
        estimator = build_for_budget(
            self._build_neural_net, theta, x, num_simulations, time_limit
        )
        self._neural_net = estimator.to(self._device)
        return estimator

    def _choose_recipe(
        self,
        num_simulations: int,
        time_limit: float | None,
        is_streamed: bool,
        batch_size: int | None,
        learning_rate: float | None,
    ) -> Recipe:
        """The recipe for a budget, with what the user wants otherwise."""
        recipe = choose_recipe(
            num_simulations,
            time_limit,
            is_separable=self._get_loss().num_contrasts is None,
            is_streamed=is_streamed,
        )
        if batch_size is not None:
            recipe = recipe._replace(batch_size=batch_size)
        if learning_rate is not None:
            recipe = recipe._replace(learning_rate=learning_rate)
        return recipe._replace(batch_size=min(recipe.batch_size, num_simulations))

    def _get_loss(self) -> RatioLoss:
        """The loss that the user chose, or the one that suits the network."""
        return self._ratio_loss or choose_loss(self._neural_net)

    def _fit(self, passes: Passes, recipe: Recipe, **settings: Any) -> History:
        """Fit by a recipe, and write what was chosen into the summary."""
        estimator = self._neural_net.to(self._device)
        loss = self._get_loss()
        self._truncated_prior = None
        history = fit(
            estimator,
            passes,
            recipe=recipe,
            loss=loss,
            show_progress_bars=self._show_progress_bars,
            **settings,
        )
        chosen = {
            "classifier": getattr(estimator, "classifier_name", None),
            "classifier_settings": getattr(estimator, "classifier_settings", None),
            "is_separable": is_separable(estimator),
            "num_weights": sum(p.numel() for p in estimator.parameters()),
            "num_simulations": passes.num_simulations,
            **recipe._asdict(),
            **vars(loss),
        }
        self._summary.setdefault("recipe", []).append(chosen)
        self._tracker.log_params(chosen)
        return history

    @torch.no_grad()
    def _measure_loss(self, batches: Iterable[Batch]) -> float:
        """Mean loss of batches, nats."""
        loss, estimator = self._get_loss(), self._neural_net
        means = [loss.of_batch(estimator, batch).mean() for batch in batches]
        return float(torch.stack(means).mean())

    @contextlib.contextmanager
    def _keep_estimator_if_failing(self) -> Iterator[None]:
        """Go on with a copy of the estimator; bring the old one back if that fails.

        Not after Ctrl-C, when what was learnt so far is still of use.
        """
        before = self._neural_net
        self._neural_net = deepcopy(before)
        try:
            yield
        except Exception:
            self._neural_net = before
            raise

    def _check_fits(self, theta: Tensor, x: Tensor) -> None:
        """Raise if the estimator to go on with takes rows of another shape."""
        if self._neural_net is not None:
            shapes = (self._neural_net.input_shape, self._neural_net.condition_shape)
            check_row_shapes(theta, x, shapes, "the estimator fitted before")


def check_training(
    batch_size: int | None,
    learning_rate: float | None,
    clip_max_norm: float | None,
    time_limit: float | None,
) -> None:
    """Raise if a setting that both ways of training share is not positive."""
    if batch_size is not None:
        check_positive_int("batch_size", batch_size)
    for name, value in (
        ("learning_rate", learning_rate),
        ("clip_max_norm", clip_max_norm),
        ("time_limit", time_limit),
    ):
        if value is not None:
            check_positive_float(name, value)
