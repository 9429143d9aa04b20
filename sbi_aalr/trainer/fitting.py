"""What all ways to fit do with the trainer: change its estimator, and write that down.

The estimator, the summary and what the user gave at the start live in the trainer,
most of them in attributes that sbi named.
"""

import contextlib
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks import is_separable
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.trainer.sbi_trainer import SbiTrainer
from sbi_aalr.training.classifiers import build_network
from sbi_aalr.training.history import History
from sbi_aalr.training.loop import fit
from sbi_aalr.training.passes import Passes
from sbi_aalr.training.ratio_loss import RatioLoss, choose_loss
from sbi_aalr.training.recipe import Entry, Recipe, TrainingSettings


@contextlib.contextmanager
def keep_estimator_if_failing(trainer: SbiTrainer) -> Iterator[None]:
    """Go on with a copy of the estimator; bring the old one back if that fails.

    Not after Ctrl-C, when what was learnt so far is still of use.
    """
    before = trainer._neural_net, trainer._truncated_prior
    trainer._neural_net = deepcopy(trainer._neural_net)
    try:
        yield
    except Exception:
        trainer._neural_net, trainer._truncated_prior = before
        raise


def begin_anew(trainer: SbiTrainer, theta: Tensor, x: Tensor, entry: Entry) -> None:
    """Give the trainer a new network, built from first rows as the recipe says."""
    network = build_network(trainer._build_neural_net, theta, x, entry)
    trainer._neural_net = network.to(trainer._device)


def get_loss(trainer: SbiTrainer) -> RatioLoss:
    """The loss that the user chose, or the one that suits the network."""
    return trainer._ratio_loss or choose_loss(trainer._neural_net)


def fit_by_recipe(
    trainer: SbiTrainer,
    passes: Passes,
    recipe: Recipe,
    settings: TrainingSettings,
    *,
    held_out: Iterable[Batch] | None,
    stop_after: int | None = None,
) -> History:
    """Fit the trainer's estimator, and write what was chosen into its summary.

    Args:
        trainer: Whose estimator to fit.
        passes: Where batches come from.
        recipe: How to train.
        settings: Whose limits of the gradient and of time hold.
        held_out: Batches to choose the best pass by; None to take the last.
        stop_after: Passes without a better held-out loss after which to end.

    Returns:
        The history of the fit.
    """
    estimator = trainer._neural_net.to(trainer._device)
    loss = get_loss(trainer)
    trainer._truncated_prior = None
    history = fit(
        estimator,
        passes,
        recipe=recipe,
        loss=loss,
        clip_max_norm=settings.clip_max_norm,
        time_limit=settings.time_limit,
        held_out=held_out,
        stop_after=stop_after,
        show_progress_bars=trainer._show_progress_bars,
    )
    chosen = {
        **_describe_network(estimator),
        "num_simulations": passes.num_simulations,
        **recipe._asdict(),
        **vars(loss),
    }
    trainer._summary.setdefault("recipe", []).append(chosen)
    trainer._tracker.log_params(chosen)
    return history


def _describe_network(estimator: RatioEstimator) -> dict[str, Any]:
    return {
        "classifier": getattr(estimator, "classifier_name", None),
        "classifier_settings": getattr(estimator, "classifier_settings", None),
        "is_separable": is_separable(estimator),
        "num_weights": sum(p.numel() for p in estimator.parameters()),
    }
