"""Algorithm 1: fit a ratio estimator while simulating.

Hermans et al. (2020), arXiv:1903.04057, Algorithm 1. Every batch is fresh, so each loss
that is recorded was held out when it was computed.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.utils.user_input_checks import (
    get_batch_loop_simulator,
    process_prior,
    wrap_as_joblib_efficient_simulator,
)
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from sbi_aalr.losses import binary_cross_entropy
from sbi_aalr.networks import is_plain
from sbi_aalr.stream import Batch
from sbi_aalr.types import Simulator

_WARM_UP_SHARE = 0.05


class History(NamedTuple):
    """What happened in each step of a fit.

    Attributes:
        losses: Mean loss of each batch before its update, nats.
        learning_rates: Learning rate of each update.
        seconds: Wall time of the whole fit.
    """

    losses: list[float]
    learning_rates: list[float]
    seconds: float


def fit(
    estimator: RatioEstimator,
    batches: Iterable[Batch],
    *,
    num_steps: int,
    num_simulations: int,
    learning_rate: float,
    clip_max_norm: float | None,
    show_progress_bars: bool,
) -> History:
    """Minimise the binary cross-entropy over a stream of batches with Adam.

    The learning rate rises over the first twentieth of the steps and then falls to zero
    along a cosine.

    Args:
        estimator: Fitted in place, on the device of the batches.
        batches: Fresh batches; the loop ends with them.
        num_steps: Number of batches to come, for the learning rate.
        num_simulations: Number of simulations to come, for the progress bar.
        learning_rate: Largest learning rate of Adam.
        clip_max_norm: Largest norm of the gradient; None for no limit.
        show_progress_bars: Whether to show loss and simulations per second.

    Returns:
        The history of the fit.

    Raises:
        RuntimeError: If the loss becomes NaN or infinite.
    """
    parameters = [p for p in estimator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    losses: list[Tensor] = []
    learning_rates: list[float] = []
    started = time.perf_counter()
    bar = tqdm(
        total=num_simulations,
        desc="Fitting AALR",
        unit=" simulations",
        unit_scale=True,
        disable=not show_progress_bars,
        mininterval=0.5,
    )
    with bar, _train_mode(estimator):
        for index, batch in enumerate(batches):
            rate = learning_rate * _learning_rate_factor(index, num_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = batch_loss(estimator, batch).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if clip_max_norm is not None:
                clip_grad_norm_(parameters, clip_max_norm, foreach=True)
            optimizer.step()
            learning_rates.append(rate)
            losses.append(loss.detach())
            # Reading a loss waits for the device, so do it only when it is shown.
            if len(losses) % 100 == 0:
                recent = float(torch.stack(losses[-100:]).mean())
                if not math.isfinite(recent):
                    break
                bar.set_postfix(loss=f"{recent:.4f}", refresh=False)
            bar.update(batch.theta.shape[0])
    history = History(
        torch.stack(losses).tolist(), learning_rates, time.perf_counter() - started
    )
    if not all(map(math.isfinite, history.losses)):
        first = next(
            i for i, loss in enumerate(history.losses) if not math.isfinite(loss)
        )
        raise RuntimeError(
            f"The loss became {history.losses[first]} at step {first + 1} of "
            f"{num_steps}. Lower `learning_rate` (now {learning_rate}) or scale `x`."
        )
    return history


@contextlib.contextmanager
def _train_mode(estimator: RatioEstimator) -> Iterator[None]:
    """Train inside, and leave an estimator that can be used, after Ctrl-C too."""
    estimator.train()
    try:
        yield
    finally:
        estimator.eval()
        estimator.zero_grad(set_to_none=True)


def prepare(
    simulator: Callable[..., Any], prior: Distribution
) -> tuple[Simulator, Distribution]:
    """Make any simulator that sbi accepts a batched one, and process the prior.

    As in sbi, the simulator is tried on 2 and on 3 parameter sets, which come on top of
    the budget, to see whether it takes batches.

    Args:
        simulator: Over a batch `(N, D)` or one parameter set at a time.
        prior: The prior as the user gave it.

    Returns:
        The batched simulator, and the prior after sbi's own processing.

    Raises:
        ValueError: If the number of rows returned depends on the number given, but is
            not the same, or if rows have no dimension.
    """
    prior, _, returns_numpy = process_prior(prior)
    if prior.sample((2,)).device.type != "cpu":
        simulator = _choose_device(simulator, prior)
    # What sbi's `process_simulator` does, which tells less about a wrong answer.
    run = wrap_as_joblib_efficient_simulator(simulator, prior, returns_numpy)
    shapes = []
    for rows in (2, 3):
        # A failure here says nothing: one parameter set at a time is fine as well.
        with contextlib.suppress(Exception):
            shapes.append(run(prior.sample((rows,))).shape)
    given = [shape[0] for shape in shapes if len(shape) > 1]
    if given == [2, 3]:
        return run, prior
    if shapes == [(2,), (3,)]:
        raise ValueError(
            "`simulator` must return one row for each parameter set, (N, *event_shape),"
            " got one number. Give it the shape (1,): `x.unsqueeze(-1)`."
        )
    if len(given) == 2 and given[0] != given[1]:
        raise ValueError(
            "`simulator` must return one row for each parameter set, got "
            f"{given[0]} rows for 2 parameter sets and {given[1]} for 3."
        )
    return get_batch_loop_simulator(run), prior


def _choose_device(simulator: Callable[..., Any], prior: Distribution) -> Any:
    """Give the simulator parameters on the CPU if it cannot take the prior's own."""
    try:
        simulator(prior.sample((2,)))
    except Exception:
        return lambda theta: simulator(theta.cpu())
    return simulator


def batch_loss(estimator: RatioEstimator, batch: Batch) -> Tensor:
    """Per-simulation loss of a batch, with x embedded once for both labels.

    Args:
        estimator: The ratio estimator.
        batch: Parameters, contrasting parameters and data, `N` rows each.

    Returns:
        Losses, shape `(N,)`, nats.
    """
    rows = batch.theta.shape[0]
    theta = torch.cat((batch.theta, batch.theta_prime))
    if is_plain(estimator):
        x = estimator.embedding_net_x(batch.x)
        pairs = (estimator.embedding_net_theta(theta), torch.cat((x, x)))
        log_ratio = estimator.net(torch.cat(pairs, dim=-1)).squeeze(-1)
    else:
        log_ratio = estimator(theta, torch.cat((batch.x, batch.x)))
    return binary_cross_entropy(log_ratio[:rows], log_ratio[rows:])


def _learning_rate_factor(step: int, num_steps: int) -> float:
    warm_up = max(1, round(_WARM_UP_SHARE * num_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, num_steps - warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
