"""Gaussian linear: ten means with a conjugate prior, the easiest of all tasks.

References:
    Lueckmann et al. (2021), arXiv:2101.04653, task T.1.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from sbi_aalr.checks import check_device, check_positive_int
from sbi_aalr.simulators._interface import (
    check_broadcast,
    check_features,
    check_parameters,
    make_generator,
    read_observation,
)

_NUM_PARAMETERS = 10
_VARIANCE = 0.1


class GaussianLinear:
    r"""One noisy look at ten parameters: $x \sim N(\theta, 0.1)$ in each dimension.

    The prior is $N(0, 0.1)$ in each dimension, so that the posterior is
    $N(x / 2, 0.05)$. All quantities are dimensionless.

    Args:
        device: Torch device of the prior, the true parameters and exact draws.

    Attributes:
        prior: The prior on `device`.
        true_parameters: Parameters one standard deviation of the prior from its mean,
            with alternating signs, shape `(10,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.1.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import GaussianLinear
        >>> task = GaussianLinear()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 10])
    """

    prior: Independent
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        zeros = torch.zeros(_NUM_PARAMETERS, device=device)
        scale = torch.full_like(zeros, math.sqrt(_VARIANCE))
        self.prior = Independent(
            Normal(zeros, scale, validate_args=False), 1, validate_args=False
        )
        sign = (-1.0) ** torch.arange(_NUM_PARAMETERS, device=device)
        self.true_parameters = scale * sign

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Add noise to each row of parameters.

        Args:
            theta: Parameters, shape `(N, 10)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Data, shape `(N, 10)`, with theta's dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        check_parameters(theta, _NUM_PARAMETERS)
        noise = torch.randn(
            theta.shape, dtype=theta.dtype, device=theta.device, generator=generator
        )
        return theta + math.sqrt(_VARIANCE) * noise

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        Args:
            theta: Parameters, shape `(..., 10)`.
            x: Data, shape `(..., 10)`. Leading dimensions broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 10, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.
        """
        check_features("theta", theta, _NUM_PARAMETERS)
        check_features("x", x, _NUM_PARAMETERS)
        check_broadcast(theta, x)
        square = (x - theta).square().sum(-1) / _VARIANCE
        return -(square + _NUM_PARAMETERS * math.log(2 * math.pi * _VARIANCE)) / 2

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw independent samples from the exact posterior N(x_o / 2, 0.05).

        Args:
            num_samples: Number of draws S.
            x_o: One observation, shape `(10,)` or `(1, 10)`: a tensor, array or
                sequence of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 10)`, float32, on the simulator's device.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape, NaN or infinity.

        Example:
            >>> from sbi_aalr.simulators import GaussianLinear
            >>> GaussianLinear().sample_posterior(100, [0.1] * 10, seed=1).shape
            torch.Size([100, 10])
        """
        num_samples = check_positive_int("num_samples", num_samples)
        generator = make_generator(seed)
        mean = read_observation(x_o, _NUM_PARAMETERS).reshape(_NUM_PARAMETERS) / 2
        noise = torch.randn(
            num_samples, _NUM_PARAMETERS, dtype=mean.dtype, generator=generator
        )
        draws = mean + math.sqrt(_VARIANCE / 2) * noise
        return draws.float().to(self.true_parameters.device)
