"""Lotka-Volterra as differential equations: predators and prey, seen with errors.

The jump process of the same name, with its summaries, is in `lotka_volterra.py`.

References:
    Lotka (1920), PNAS 6(7).
    Lueckmann et al. (2021), arXiv:2101.04653, task T.10.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Independent, LogNormal

from sbi_aalr.checks import check_device
from sbi_aalr.simulators._chains import sample_chains
from sbi_aalr.simulators._interface import (
    check_broadcast,
    check_features,
    check_parameters,
    check_positive,
    read_observation,
)
from sbi_aalr.simulators._two_populations import solve

_NUM_PARAMETERS = 4
_NUM_TIMES = 10
_NUM_FEATURES = 2 * _NUM_TIMES
_INTERVAL = 2.1
_START = (30.0, 1.0)
_LOWEST, _HIGHEST = 1e-10, 1e4
_NOISE = 0.1
_LOG_MEDIANS, _SPREAD = (-0.125, -3.0, -0.125, -3.0), 0.5


class LotkaVolterraODE:
    r"""Prey and predators at ten times, each with a tenth of error.

    Prey $X$ and predators $Y$, 30 and 1 at first, follow
    $\dot X = \alpha X - \beta X Y$ and $\dot Y = \delta X Y - \gamma Y$. Both are seen
    at the times 0, 2.1, ..., 18.9, times a log-normal error whose logarithm has
    standard deviation 0.1; populations below $10^{-10}$ or above $10^4$ are taken to be
    there. The prior of $(\alpha, \beta, \gamma, \delta)$ is log-normal: the logarithms
    have means $-0.125, -3, -0.125, -3$ and standard deviations of 0.5. Rates are per
    unit of time, $\beta$ and $\delta$ per head as well.

    Args:
        device: Torch device of the prior, the true parameters and draws.

    Attributes:
        prior: The prior on `device`.
        true_parameters: The prior's medians, shape `(4,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.10.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import LotkaVolterraODE
        >>> task = LotkaVolterraODE()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 20])
    """

    prior: Independent
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        means = torch.tensor(_LOG_MEDIANS, device=device)
        self.prior = Independent(
            LogNormal(means, torch.full_like(means, _SPREAD), validate_args=False),
            1,
            validate_args=False,
        )
        self.true_parameters = means.exp()

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Let two populations live for each row of parameters, and count them.

        Args:
            theta: Positive rates, shape `(N, 4)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Prey at all times, then predators, shape `(N, 20)`, with theta's dtype and
            device. NaN where the equations could not be solved, which takes rates that
            are hundreds of times the prior's.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, values that are not
                positive, or NaN or infinity in it.
        """
        check_parameters(theta, _NUM_PARAMETERS)
        check_positive("theta", theta)
        log_mean = _solve_logs(theta).to(theta.dtype)
        noise = torch.randn(
            log_mean.shape, dtype=theta.dtype, device=theta.device, generator=generator
        )
        return (log_mean + _NOISE * noise).exp()

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        Args:
            theta: Rates, shape `(..., 4)`.
            x: Prey at all times, then predators, shape `(..., 20)`. Leading dimensions
                broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats; minus
            infinity where theta or x is not positive.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 4 or 20, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.
        """
        check_features("theta", theta, _NUM_PARAMETERS)
        check_features("x", x, _NUM_FEATURES)
        check_broadcast(theta, x)
        positive, possible = (theta > 0).all(-1), (x > 0).all(-1)
        rates = torch.where(positive.unsqueeze(-1), theta, 1.0)
        log_mean = _solve_logs(rates.reshape(-1, _NUM_PARAMETERS))
        log_mean = log_mean.reshape(*theta.shape[:-1], _NUM_FEATURES)
        log_x = torch.where(possible.unsqueeze(-1), x, 1.0).to(log_mean).log()
        square = ((log_x - log_mean) / _NOISE).square()
        log_volume = math.log(_NOISE * math.sqrt(2 * math.pi))
        log_density = -(square / 2 + log_x + log_volume).sum(-1)
        valid = positive & possible & ~log_density.isnan()
        dtype = torch.promote_types(theta.dtype, x.dtype)
        return torch.where(valid, log_density, -torch.inf).to(dtype)

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw from the exact posterior by long chains.

        Args:
            num_samples: Number of draws S.
            x_o: One observation of positive numbers, shape `(20,)` or `(1, 20)`: a
                tensor, array or sequence of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 4)`, float32, on the simulator's device. R-hat is at most
            1.01.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape, NaN or infinity, or values that are not positive.
            RuntimeError: If the chains have not converged.
        """
        counts = read_observation(x_o, _NUM_FEATURES).reshape(_NUM_FEATURES)
        check_positive("x_o", counts)
        counts = counts.float().to(self.true_parameters.device)
        return sample_chains(
            self.prior,
            lambda theta: self.log_likelihood(theta, counts),
            num_samples,
            seed,
        )


def _solve_logs(theta: Tensor) -> Tensor:
    """Logarithms of prey, then predators, `(N, 4)` -> `(N, 20)`, float64."""
    solution = solve(theta, _START, _INTERVAL, _NUM_TIMES)
    logs = solution.transpose(1, 2).flatten(1)
    return logs.clamp(math.log(_LOWEST), math.log(_HIGHEST))
