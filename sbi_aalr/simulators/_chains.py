"""Draws from a posterior whose likelihood is known, by chains that are long enough.

Where nothing gives independent draws, the sampler of this package runs on the exact
likelihood until its chains agree and their effective sizes are large.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to

from sbi_aalr.checks import check_positive_int
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.plan import make_plan
from sbi_aalr.sampling.sample import pick_draws, sample
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import CallableTarget
from sbi_aalr.simulators._interface import make_generator

# Its proposals do not depend on where chains are, and are evaluated many at a time.
_KERNEL = "independence"
_THIN = 10
# Least effective size for each draw asked for, and altogether.
_EFFECTIVE_SHARE = 0.3
_LEAST_EFFECTIVE = 400.0
_MAX_STEPS = 200_000


class _Posterior:
    """The log-posterior of one observation, minus infinity outside the prior."""

    def __init__(
        self, log_prior: LogPrior, log_likelihood: Callable[[Tensor], Tensor]
    ) -> None:
        self._log_prior, self._log_likelihood = log_prior, log_likelihood

    def set_x(self, x_o: Tensor) -> None:
        """The likelihood knows its observation."""

    def __call__(self, theta: Tensor, track_gradients: bool = False) -> Tensor:
        """Evaluate parameters `(N, D)` -> `(N,)`, nats."""
        log_posterior = self._log_prior(theta)
        inside = torch.isfinite(log_posterior)
        log_posterior[inside] += self._log_likelihood(theta[inside])
        return log_posterior


def sample_chains(
    prior: Distribution,
    log_likelihood: Callable[[Tensor], Tensor],
    num_samples: int,
    seed: int | None,
) -> Tensor:
    """Draw from an exact posterior by chains that have converged.

    Args:
        prior: The prior.
        log_likelihood: Maps parameters inside the prior, `(N, D)`, to the
            log-likelihood of the observation, nats, `(N,)`.
        num_samples: Number of draws S.
        seed: Makes the draws reproducible; torch's global seed decides by default.

    Returns:
        Draws, shape `(S, D)`, evenly spaced along all chains, with the prior's dtype
        and device. R-hat is at most 1.01, and the effective size at least 0.3 for each
        draw and 400.

    Raises:
        TypeError: If num_samples or seed is not an int.
        ValueError: If num_samples is not positive, seed is negative, or the observation
            is impossible under all of 10,000 draws of the prior.
        RuntimeError: If the chains have not converged.
    """
    num_samples = check_positive_int("num_samples", num_samples)
    seed = int(torch.randint(2**62, (), generator=make_generator(seed)))
    log_prior = LogPrior(prior)
    target = CallableTarget(
        "exact",
        prior,
        log_prior,
        biject_to(prior.support).inv,
        _Posterior(log_prior, log_likelihood),
    )
    settings = Settings(
        kernel=_KERNEL,
        thin=_THIN,
        min_ess=max(_LEAST_EFFECTIVE, _EFFECTIVE_SHARE * num_samples),
        max_steps=_MAX_STEPS,
    )
    run = sample(
        target,
        # One observation of one trial, which the likelihood knows already.
        torch.zeros(1, 1, 1, device=prior.mean.device),
        make_plan(settings, num_samples, 1, None),
        batched=False,
        seed=seed,
        show_progress_bars=False,
    )
    if not bool(run.convergence.converged.all()):
        r_hat = float(run.convergence.r_hat.max())
        raise RuntimeError(
            f"The chains of the exact posterior must converge, got R-hat {r_hat:.3f} "
            f"after {_MAX_STEPS} steps. Check that `x_o` is a plausible outcome of the "
            "simulator."
        )
    return pick_draws(run, num_samples)[:, 0]
