"""Where a posterior density is largest, by gradient ascent."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sbi.utils.sbiutils import gradient_ascent
from torch import Tensor

from sbi_aalr.checks import (
    check_bool,
    check_choice,
    check_positive_float,
    check_positive_int,
)
from sbi_aalr.posterior.modes import gradients_on


def find_maximum(
    log_prob: Callable[[Tensor], Tensor],
    starts: Mapping[str, Callable[[tuple[int]], Tensor]],
    theta_transform: Any,
    *,
    num_iter: int,
    num_to_optimize: int,
    learning_rate: float,
    init_method: str | Tensor,
    num_init_samples: int,
    save_best_every: int,
    show_progress_bars: bool,
) -> Tensor:
    """Climb from the best of some starts with sbi's gradient ascent.

    Args:
        log_prob: Parameters `(N, D)` -> log-densities `(N,)`, up to a constant, nats.
        starts: Where starts may come from, by name: functions of a shape `(N,)`.
        theta_transform: From prior units to unconstrained space.
        num_iter: Number of steps.
        num_to_optimize: How many of the starts to climb from, the best of them.
        learning_rate: Of the optimiser.
        init_method: A name in `starts`, or starts, shape `(N, D)`.
        num_init_samples: Number of starts to draw.
        save_best_every: Steps between two looks for the best.
        show_progress_bars: Whether to show progress.

    Returns:
        The best parameters found, shape `(1, D)`, prior units.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is not positive, or `init_method` is unknown.
    """
    num_iter = check_positive_int("num_iter", num_iter)
    num_to_optimize = check_positive_int("num_to_optimize", num_to_optimize)
    num_init_samples = check_positive_int("num_init_samples", num_init_samples)
    save_best_every = check_positive_int("save_best_every", save_best_every)
    learning_rate = check_positive_float("learning_rate", learning_rate)
    check_bool("show_progress_bars", show_progress_bars)
    if not isinstance(init_method, Tensor):
        name = check_choice("init_method", init_method, starts)
        init_method = starts[name]((num_init_samples,))
    with gradients_on("map"), torch.enable_grad():
        return gradient_ascent(
            potential_fn=log_prob,
            inits=init_method,
            theta_transform=theta_transform,
            num_iter=num_iter,
            num_to_optimize=num_to_optimize,
            learning_rate=learning_rate,
            save_best_every=save_best_every,
            show_progress_bars=show_progress_bars,
        )[0]
