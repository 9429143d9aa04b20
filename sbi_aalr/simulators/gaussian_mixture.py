"""Gaussian mixture: one mean seen through a wide or a narrow lens.

References:
    Sisson, Fan & Tanaka (2007), PNAS 104(6).
    Lueckmann et al. (2021), arXiv:2101.04653, task T.7.
"""

import math
from typing import Any

import torch
from sbi.utils import BoxUniform
from torch import Tensor

from sbi_aalr.checks import check_device, check_positive_int
from sbi_aalr.simulators._interface import (
    check_broadcast,
    check_features,
    check_parameters,
    make_generator,
    read_observation,
    round_into_support,
)

_BOUND = 10.0
_SCALES = (1.0, 0.1)
_TRUTH = (2.0, -3.0)
_MAX_PROPOSALS_AT_ONCE = 100_000
_MAX_PROPOSALS_PER_DRAW = 10_000


class GaussianMixture:
    r"""A point around a 2-D mean, near to it or far, with equal chances.

    $x \sim \frac12 N(\theta, I) + \frac12 N(\theta, 0.01 I)$; the prior is uniform on
    $(-10, 10)^2$. All quantities are dimensionless.

    Args:
        device: Torch device of the prior, the true parameters and exact draws.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: A mean well inside the prior, shape `(2,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.7.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import GaussianMixture
        >>> task = GaussianMixture()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 2])
    """

    prior: BoxUniform
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        bounds = torch.full((2,), _BOUND, device=device)
        self.prior = BoxUniform(-bounds, bounds)
        self.true_parameters = torch.tensor(_TRUTH, device=device)

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw one point for each row of parameters.

        Args:
            theta: Parameters, shape `(N, 2)`. Rows outside the prior are simulated too.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Points, shape `(N, 2)`, with theta's dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        check_parameters(theta, 2)
        return theta + _draw_noise(len(theta), theta.dtype, theta.device, generator)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        Args:
            theta: Parameters, shape `(..., 2)`.
            x: Points, shape `(..., 2)`. Leading dimensions broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 2, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.

        Example:
            >>> import torch
            >>> from sbi_aalr.simulators import GaussianMixture
            >>> GaussianMixture().log_likelihood(torch.zeros(2), torch.zeros(2))
            tensor(2.0841)
        """
        check_features("theta", theta, 2)
        check_features("x", x, 2)
        check_broadcast(theta, x)
        square = (x - theta).square().sum(-1)
        wide, narrow = (
            -square / (2 * scale**2) - 2 * math.log(scale) for scale in _SCALES
        )
        return torch.logaddexp(wide, narrow) - math.log(2 * 2 * math.pi)

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw independent samples from the exact posterior p(theta|x_o).

        It is the same mixture around `x_o`; what lies outside the prior is drawn again.

        Args:
            num_samples: Number of draws S.
            x_o: One observation, shape `(2,)` or `(1, 2)`: a tensor, array or sequence
                of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 2)`, float32, on the simulator's device.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape, NaN or infinity.
            RuntimeError: If fewer than one proposal in 10,000 lies inside the prior.

        Example:
            >>> from sbi_aalr.simulators import GaussianMixture
            >>> theta = GaussianMixture().sample_posterior(1_000, [9.9, 0.0], seed=1)
            >>> theta.shape, bool((theta.abs() < 10).all())
            (torch.Size([1000, 2]), True)
        """
        num_samples = check_positive_int("num_samples", num_samples)
        generator = make_generator(seed)
        point = read_observation(x_o, 2).reshape(2)
        size = min(max(2 * num_samples, 1_000), _MAX_PROPOSALS_AT_ONCE)
        parts: list[Tensor] = []
        kept = tried = 0
        while kept < num_samples:
            if tried >= _MAX_PROPOSALS_PER_DRAW * max(num_samples, 100):
                raise RuntimeError(
                    f"The exact sampler accepted {kept} of {tried} proposals, too few "
                    f"for {num_samples} draws. Check that `x_o` is a plausible outcome "
                    "of the simulator."
                )
            theta = point + _draw_noise(size, point.dtype, point.device, generator)
            parts.append(theta[(theta.abs() < _BOUND).all(1)])
            kept, tried = kept + len(parts[-1]), tried + size
        return round_into_support(torch.cat(parts)[:num_samples], self.prior)


def _draw_noise(
    size: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    options: dict[str, Any] = {"device": device, "generator": generator}
    lens = torch.randint(0, len(_SCALES), (size, 1), **options)
    scale = torch.tensor(_SCALES, dtype=dtype, device=device)[lens]
    return scale * torch.randn(size, 2, dtype=dtype, **options)
