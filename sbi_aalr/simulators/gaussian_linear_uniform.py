"""Gaussian linear with a uniform prior: a Gaussian posterior that a box cuts off.

References:
    Lueckmann et al. (2021), arXiv:2101.04653, task T.2.
"""

import math

import torch
from sbi.utils import BoxUniform
from torch import Tensor

from sbi_aalr.checks import check_device, check_positive_int
from sbi_aalr.simulators._interface import (
    check_parameters,
    make_generator,
    read_observation,
    round_into_support,
)
from sbi_aalr.simulators.gaussian_linear import GaussianLinear

_NUM_PARAMETERS = 10
_VARIANCE = 0.1
_BOUND = 1.0
_MAX_SCORE = 25.0


class GaussianLinearUniform:
    r"""One noisy look at ten parameters: $x \sim N(\theta, 0.1)$ in each dimension.

    The prior is uniform on $(-1, 1)^{10}$, so that the posterior is $N(x, 0.1)$ in each
    dimension, cut off by the box. All quantities are dimensionless.

    Args:
        device: Torch device of the prior, the true parameters and exact draws.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: Parameters half way to the prior's bounds, with alternating
            signs, shape `(10,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.2.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import GaussianLinearUniform
        >>> task = GaussianLinearUniform()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 10])
    """

    prior: BoxUniform
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        bounds = torch.full((_NUM_PARAMETERS,), _BOUND, device=device)
        self.prior = BoxUniform(-bounds, bounds)
        sign = (-1.0) ** torch.arange(_NUM_PARAMETERS, device=device)
        self.true_parameters = bounds / 2 * sign
        self._linear = GaussianLinear(device)

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Add noise to each row of parameters.

        Args:
            theta: Parameters, shape `(N, 10)`. Rows outside the prior are simulated
                too.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Data, shape `(N, 10)`, with theta's dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        check_parameters(theta, _NUM_PARAMETERS)
        return self._linear.simulate(theta, generator=generator)

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
        return self._linear.log_likelihood(theta, x)

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw independent samples from the exact posterior.

        Each dimension is a Gaussian between two bounds, whose distribution function is
        inverted.

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
                another shape, NaN or infinity, or lies more than 25 standard deviations
                of the noise beyond the prior.

        Example:
            >>> from sbi_aalr.simulators import GaussianLinearUniform
            >>> x_o = [0.9] * 10
            >>> theta = GaussianLinearUniform().sample_posterior(100, x_o, seed=1)
            >>> theta.shape, bool((theta.abs() < 1).all())
            (torch.Size([100, 10]), True)
        """
        num_samples = check_positive_int("num_samples", num_samples)
        generator = make_generator(seed)
        centre = read_observation(x_o, _NUM_PARAMETERS).reshape(_NUM_PARAMETERS)
        scale = math.sqrt(_VARIANCE)
        farthest = float(centre.abs().max())
        reach = _BOUND + _MAX_SCORE * scale
        if farthest > reach:
            raise ValueError(
                f"`x_o` must lie within {reach:.1f} of zero, got {farthest:.4g}. Check "
                "that it is a plausible outcome of the simulator."
            )
        # Mirrored to the lower tail, where the distribution function has its digits, if
        # it is not torch's own.
        distance = centre.abs()
        low, high = (
            torch.special.erfc((distance - bound) / (scale * math.sqrt(2))) / 2
            for bound in (-_BOUND, _BOUND)
        )
        uniform = torch.rand(
            num_samples, _NUM_PARAMETERS, dtype=centre.dtype, generator=generator
        )
        score = torch.special.ndtri(low + (high - low) * uniform)
        draws = torch.where(centre < 0, -1.0, 1.0) * (distance + scale * score)
        return round_into_support(draws, self.prior)
