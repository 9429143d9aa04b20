"""What a user may pass as `base`: a name, or what sbi has trained."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.neural_nets.estimators.base import ConditionalDensityEstimator
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.checks import check_choice
from sbi_aalr.networks.given_density import wrap_density
from sbi_aalr.training.contrasts import evaluate

BASES = ("auto", "posterior", "likelihood")
# Simulations that tell the side of a density, all pairs of so many at a time.
_FEWEST_TOLD, _NUM_TOLD, _NUM_OTHERS = 10, 1_200, 300
_SIDES = {"posterior_estimator": "posterior", "likelihood_estimator": "likelihood"}


def check_base(base: object) -> Any:
    """Return a base, a posterior of sbi's as the density behind it, or raise.

    Args:
        base: A name in `BASES`, None, an estimator of sbi's NPE or NLE, or a posterior
            made with one.

    Returns:
        The name, None, or a pair of the density and of the side that it is known to be
        of, None where it is not known.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it is an unknown name.
    """
    if base is None or isinstance(base, str):
        return base and check_choice("base", base, BASES)
    if isinstance(base, NeuralPosterior):
        for source in (base, base.potential_fn):
            for name, side in _SIDES.items():
                if isinstance(getattr(source, name, None), nn.Module):
                    return getattr(source, name), side
    if isinstance(base, ConditionalDensityEstimator):
        # Of discrete numbers in part: data may be so, and parameters are not.
        return base, "likelihood" if hasattr(base, "discrete_net") else None
    raise TypeError(
        "`base` must be one of 'auto', 'posterior' and 'likelihood', None, or an "
        "estimator or a posterior that sbi's NPE or NLE has trained, got "
        f"{type(base).__name__}."
    )


def check_given_base(base: object) -> Any:
    """Return a density that is given again as `check_base` does; None for none.

    Raises:
        TypeError: If it is no density.
    """
    if isinstance(base, str):
        raise TypeError(
            "`base` must be the estimator or posterior of sbi's that the trainer was "
            f"given, got {base!r:.60}. A base that has a name is not given again."
        )
    return check_base(base)


def wrap_base(
    base: tuple[nn.Module, str | None],
    log_prior: Callable[[Tensor], Tensor],
    theta: Tensor,
    x: Tensor,
    side: str | None = None,
) -> RatioEstimator:
    """Make a ratio estimator of a density that sbi has trained.

    Where its side is not known, shapes say which it is of; where both have one shape,
    it is the side that finds the parameters of data among others.

    Args:
        base: What `check_base` returned for it.
        log_prior: Log-density of the prior without cuts, nats.
        theta: Parameters of simulations, shape `(N, D)`.
        x: Their data, shape `(N, *event_shape)`.
        side: The side that it was found to be of before, whatever the rows say.

    Returns:
        The estimator.

    Raises:
        ValueError: If it is of data or parameters of another shape, or its side cannot
            be told.
    """
    density: Any = deepcopy(base[0])
    side = side or base[1]
    shapes = density.input_shape, density.condition_shape
    theta_shape, x_shape = theta.shape[1:], x.shape[1:]
    fits = {
        "posterior": shapes == (theta_shape, x_shape),
        "likelihood": shapes == (x_shape, theta_shape),
    }
    sides = [name for name, is_so in fits.items() if is_so and side in (None, name)]
    if not sides:
        raise ValueError(
            f"`base` must be a density of theta {tuple(theta_shape)} given x "
            f"{tuple(x_shape)} or the other way round, got one of "
            f"{tuple(shapes[0])} given {tuple(shapes[1])}."
        )
    if len(sides) > 1 and len(theta) < _FEWEST_TOLD:
        raise ValueError(
            "`base` must be a posterior, such as `NPE.build_posterior` makes, which "
            "knows of what it is a density: these files do not say whether it is one "
            f"of theta or of x, and both have shape {tuple(x_shape)}."
        )
    wrapped = [wrap_density(density, name, log_prior, theta, x) for name in sides]
    return max(wrapped, key=lambda estimator: _tell_apart(estimator, theta, x))


def _tell_apart(estimator: RatioEstimator, theta: Tensor, x: Tensor) -> float:
    """How well it finds the parameters of data among those of others, nats.

    That is minus InfoNCE, which no function of the data changes, as the wrong constant
    of a likelihood, and which any function of the parameters makes worse.
    """
    scores = []
    for start in range(0, min(len(theta), _NUM_TOLD), _NUM_OTHERS):
        rows = slice(start, start + _NUM_OTHERS)
        # Every theta with every x, `(n, n)`.
        pairs = theta[rows].unsqueeze(1).expand(-1, len(theta[rows]), -1)
        log_ratio = evaluate(estimator, pairs, x[rows])
        log_ratio = log_ratio.nan_to_num(-50.0).clamp(-50, 50)
        scores.append(log_ratio.diagonal() - log_ratio.logsumexp(dim=0))
    return float(torch.cat(scores).mean())
