r"""How far an estimated ratio is from being normalised, for each observation.

The exact ratio has $E_{p(\theta)}[r(x|\theta)] = 1$ for every x, because a posterior
density integrates to one. An estimated one has not. Its mean over prior draws says by
how much, and dividing by it makes r times the prior a density again.

References:
    Hermans et al. (2020), arXiv:1903.04057, for the ratio; Miller et al. (2022),
    arXiv:2210.06170, for measuring its normaliser.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_non_negative_int, check_positive_int
from sbi_aalr.networks import is_separable
from sbi_aalr.networks.pairs import fix_observations

# Entries of a block of logits: it should stay in the cache of a CPU.
_BLOCK_ENTRIES = 2**20
_BLOCK_ROWS = 2_000


class Normaliser(NamedTuple):
    """Logarithms of E_prior r(x|theta), and how well they are known.

    Attributes:
        log_normaliser: One for each observation, shape `(B,)`, nats; 0 for an exact
            ratio.
        standard_error: Monte Carlo standard error of each, shape `(B,)`, nats.
        num_effective: Effective number of the prior draws, shape `(B,)`; with fewer
            than some 30 neither number above can be relied on.
    """

    log_normaliser: Tensor
    standard_error: Tensor
    num_effective: Tensor


class PriorDraws:
    """Draws of a prior that are embedded once, to meet any number of observations.

    Args:
        estimator: The ratio estimator, on the prior's device.
        prior: The prior it was trained with.
        num_draws: Number of draws.
        seed: Of the draws; the global generators are left untouched.

    Raises:
        TypeError: If `num_draws` or `seed` is no int.
        ValueError: If `num_draws` is not positive or `seed` negative.
    """

    @torch.no_grad()
    def __init__(
        self,
        estimator: RatioEstimator,
        prior: Distribution,
        num_draws: int = 100_000,
        seed: int = 0,
    ) -> None:
        self.num_draws = check_positive_int("num_draws", num_draws)
        self._estimator = estimator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_non_negative_int("seed", seed))
            self._rows = prior.sample((num_draws,))
        if is_separable(estimator):
            parts = self._rows.split(_BLOCK_ROWS)
            self._rows = torch.cat([estimator.embedding_net_theta(p) for p in parts])

    @torch.no_grad()
    def measure(self, x: Tensor, are_trials: bool = False) -> Normaliser:
        """Measure log E_prior r(x|theta).

        Args:
            x: Observations, shape `(B, *event_shape)`.
            are_trials: Whether they are i.i.d. trials of one observation, whose
                log-ratios are summed.

        Returns:
            A normaliser for each observation, or a single one for trials.
        """
        estimator = self._estimator
        evaluate = fix_observations(estimator, x)
        if is_separable(estimator):
            embedded_x = estimator.embedding_net_x(x)
            evaluate = functools.partial(_multiply, estimator.net, embedded_x)
        sums: list[Tensor] = []
        squares: list[Tensor] = []
        rows = max(1, min(_BLOCK_ROWS, _BLOCK_ENTRIES // len(x)))
        for part in self._rows.split(rows):
            log_ratio = evaluate(part).double()
            if are_trials:
                log_ratio = log_ratio.sum(dim=1, keepdim=True)
            sums.append(log_ratio.logsumexp(0))
            squares.append((2 * log_ratio).logsumexp(0))
        total, square = (torch.stack(parts).logsumexp(0) for parts in (sums, squares))
        num_effective = (2 * total - square).exp()
        # The relative error of a mean of weights, by their effective number.
        variance = (1 / num_effective - 1 / self.num_draws).clamp_min(0)
        return Normaliser(
            (total - math.log(self.num_draws)).to(x.dtype),
            variance.sqrt().to(x.dtype),
            num_effective.to(x.dtype),
        )


def measure_normaliser(
    estimator: RatioEstimator,
    prior: Distribution,
    x: Tensor,
    *,
    num_draws: int = 100_000,
    seed: int = 0,
) -> Normaliser:
    """Measure log E_prior r(x|theta) for each observation from prior draws.

    All observations share the draws; where the network is separable, one matrix product
    serves them all.

    Args:
        estimator: The ratio estimator, on the prior's device.
        prior: The prior it was trained with.
        x: Observations, shape `(B, *event_shape)`.
        num_draws: Number of prior draws.
        seed: Of the draws; the global generators are left untouched.

    Returns:
        The normalisers, with their Monte Carlo errors.

    Raises:
        TypeError: If `num_draws` or `seed` is no int.
        ValueError: If `num_draws` is not positive or `seed` negative.

    Example:
        >>> from sbi_aalr.networks import two_towers
        >>> from sbi_aalr.simulators import SLCP
        >>> slcp = SLCP()
        >>> theta = slcp.prior.sample((500,))
        >>> x = slcp.simulate(theta)
        >>> estimator = two_towers(32)(theta, x)
        >>> measure_normaliser(estimator, slcp.prior, x[:3]).log_normaliser.shape
        torch.Size([3])
    """
    return PriorDraws(estimator, prior, num_draws, seed).measure(x)


class NormalisedPosterior:
    """The part of `MHPosterior` that measures how its ratio is normalised."""

    potential_fn: Any
    _x_else_default_x: Callable[[Any], Tensor]
    _prior_draws: PriorDraws | None = None

    def normaliser(self, x: Tensor | None = None) -> Normaliser:
        """Measure how far the ratio of one observation is from being normalised.

        The same 100,000 prior draws serve every observation.

        Args:
            x: Observation, or i.i.d. trials; by default the default x.

        Returns:
            Its log-normaliser, shape `(1,)`, which `log_prob` takes off, with its Monte
            Carlo error.

        Raises:
            TypeError: If the potential has no ratio estimator.
        """
        if not isinstance(self.potential_fn, RatioBasedPotential):
            raise TypeError(
                "Only a ratio can be measured, got a potential of type "
                f"{type(self.potential_fn).__name__}. Its `potential` is known up to a "
                "constant."
            )
        if self._prior_draws is None:
            estimator = self.potential_fn.ratio_estimator
            self._prior_draws = PriorDraws(estimator, self.potential_fn.prior)
        return self._prior_draws.measure(self._x_else_default_x(x), are_trials=True)

    def _get_log_normaliser(self, x: Tensor | None) -> Tensor | float:
        """What to take off the potential, nats; nothing where there is no ratio."""
        if not isinstance(self.potential_fn, RatioBasedPotential):
            return 0.0
        return self.normaliser(x).log_normaliser


def _multiply(head: Any, embedded_x: Tensor, embedded_theta: Tensor) -> Tensor:
    return head.all_pairs(embedded_theta, embedded_x)
