r"""How far an estimated ratio is from being normalised, for each observation.

The exact ratio has $E_{p(\theta)}[r(x|\theta)] = 1$ for every x, because a posterior
density integrates to one. An estimated one has not. Its mean over prior draws says by
how much, and dividing by it makes r times the prior a density again.

References:
    Hermans et al. (2020), arXiv:1903.04057, for the ratio; Miller et al. (2022),
    arXiv:2210.06170, for measuring its normaliser.
"""

import math
import operator
import warnings
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_positive_int, check_seed
from sbi_aalr.errors import NormaliserWarning
from sbi_aalr.mcmc.weights import LogMean, sum_weights
from sbi_aalr.networks.pairs import fix_observations, take_apart
from sbi_aalr.sampling.guided import Guide, find_guide
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.seeding import seeded

# Entries of a block of logits: it should stay in the cache of a CPU.
_BLOCK_ENTRIES = 2**20
_BLOCK_ROWS = 2_000
_LEAST_EFFECTIVE = 30
# Of the prior where draws of q stand beside them.
_FEW_DRAWS = 20_000


class Normaliser(NamedTuple):
    """Logarithms of E_prior r(x|theta), and how well they are known.

    Attributes:
        log_normaliser: One for each observation, shape `(B,)`, nats; 0 for an exact
            ratio.
        standard_error: Monte Carlo standard error of each, shape `(B,)`, nats.
        num_effective: Effective number of the prior draws, shape `(B,)`; with fewer
            than 30 neither number above can be relied on.
    """

    log_normaliser: Tensor
    standard_error: Tensor
    num_effective: Tensor

    def warn_if_unknown(self) -> "Normaliser":
        """Return itself, and say so where the normaliser cannot be relied on.

        Warns:
            NormaliserWarning: If the draws are worth fewer than 30 of the posterior.
        """
        least = float(self.num_effective.min())
        # Written so that NaN warns.
        if not least >= _LEAST_EFFECTIVE:
            warning = NormaliserWarning(
                "The normaliser of the log-density rests on draws of the prior that "
                f"are worth {least:.1f} of the posterior, which is too narrow for "
                "more: up to a constant the log-density is right, but the constant may "
                "be off by far. `normaliser` tells its error, and `potential` is the "
                "same without the constant.",
                value=least,
            )
            # Of the user's call of `log_prob`.
            warnings.warn(warning, stacklevel=3)
        return self


def measure_log_mean(
    evaluate: Callable[[Tensor], Tensor], theta: Tensor, num_observations: int
) -> LogMean:
    """Average ratios over prior draws, a block of them at a time.

    Args:
        evaluate: Parameters `(n, D)` -> log-ratios `(n, B)`, nats.
        theta: Prior draws, shape `(N, D)`, or what they are embedded as.
        num_observations: Number of observations, `B`, to choose the blocks by.

    Returns:
        The means, shape `(B,)`, in float64.
    """
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_ENTRIES // num_observations))
    blocks = (sum_weights(evaluate(part).double()) for part in theta.split(rows))
    return reduce(operator.add, blocks)


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
        num_draws = check_positive_int("num_draws", num_draws)
        self._made_of = estimator, prior, num_draws, seed
        self._estimator = estimator
        self._parts = take_apart(estimator)
        self._seed, self._log_prior = check_seed("seed", seed), LogPrior(prior)
        # A prior that was cut has a density that nobody knows the scale of.
        is_cut = isinstance(prior, TruncatedPrior)
        self._guide = None if is_cut else find_guide(estimator)
        if self._guide is not None:
            num_draws = min(num_draws, _FEW_DRAWS)
        with seeded(seed):
            self._rows = self._theta = prior.sample((num_draws,))
        if self._parts.combine_all is not None:
            parts = self._rows.split(_BLOCK_ROWS)
            self._rows = torch.cat([self._parts.embed_theta(part) for part in parts])

    def __reduce__(self) -> Any:
        """Pickle as what it is made of, as parts of networks cannot be pickled."""
        return type(self), self._made_of

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
        if self._guide is not None and (len(x) == 1 or not are_trials):
            means = [self._measure_guided(self._guide, row) for row in x.split(1)]
            return Normaliser(*(torch.cat(part) for part in zip(*means, strict=True)))
        combine_all = self._parts.combine_all
        if combine_all is None:
            evaluate = fix_observations(self._estimator, x)
        else:
            evaluate = partial(_combine, combine_all, self._parts.embed_x(x))
        if are_trials:
            evaluate = partial(_sum_trials, evaluate)
        mean = measure_log_mean(evaluate, self._rows, len(x))
        return _round(mean)

    def _measure_guided(self, guide: Guide, x: Tensor) -> Normaliser:
        """The same for one x, with draws of q(theta|x) beside those of the prior."""
        generator = torch.Generator(x.device).manual_seed(self._seed)
        drawn, log_q = guide.draw(generator, x, len(self._theta))
        drawn, log_q = drawn[:, 0], log_q[:, 0]
        evaluate = fix_observations(self._estimator, x)
        parts = [evaluate(rows)[:, 0] for rows in drawn.split(_BLOCK_ROWS)]
        log_ratio = torch.cat(parts)
        # Half of all draws are of q; log of the mixture less that of the prior.
        log_prior = self._log_prior(drawn)
        own = log_ratio - _halve(log_q - log_prior)
        # Draws of q may reach over edges of the prior that its support does not tell.
        own = own.masked_fill(log_prior.isneginf(), -torch.inf)
        combine_all = self._parts.combine_all
        shared = (
            evaluate(self._rows)
            if combine_all is None
            else combine_all(self._rows, self._parts.embed_x(x))
        )[:, 0]
        log_prior = self._log_prior(self._theta)
        shared = shared - _halve(guide.pair_with(self._theta, x)[:, 0] - log_prior)
        mean = sum_weights(torch.cat((own, shared)).double().unsqueeze(1))
        return _round(mean)


def _round(mean: LogMean) -> Normaliser:
    return Normaliser(
        mean.value.float(), mean.standard_error.float(), mean.effective_size.float()
    )


def _halve(log_ratio: Tensor) -> Tensor:
    """Log of the mean of one and of a ratio."""
    return torch.logaddexp(log_ratio, torch.zeros_like(log_ratio)) - math.log(2)


def _combine(
    combine_all: Callable[[Tensor, Tensor], Tensor], embedded_x: Tensor, theta: Tensor
) -> Tensor:
    return combine_all(theta, embedded_x)


def _sum_trials(evaluate: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    return evaluate(theta).double().sum(dim=1, keepdim=True)
