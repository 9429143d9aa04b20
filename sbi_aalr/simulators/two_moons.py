"""Two moons: a posterior of two thin crescents, with an exact answer.

Local structure at a scale a hundred times smaller than the prior, and two modes that no
local proposal connects.

References:
    Greenberg, Nonnenmacher & Macke (2019), arXiv:1905.07488.
    Lueckmann et al. (2021), arXiv:2101.04653, task T.8.
"""

import math

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

_RADIUS = 0.1
_SPREAD = 0.01
_SHIFT = 0.25
_TRUTH = (0.25, 0.25)
_MAX_PROPOSALS_AT_ONCE = 100_000
_MAX_PROPOSALS_PER_DRAW = 10_000


class TwoMoons:
    r"""A point on a noisy half circle, moved by folded parameters.

    With $\alpha \sim U(-\pi/2, \pi/2)$ and $r \sim N(0.1, 0.01^2)$, the point is
    $x_1 = r \cos\alpha + 0.25 - |\theta_1 + \theta_2| / \sqrt 2$ and
    $x_2 = r \sin\alpha + (\theta_2 - \theta_1) / \sqrt 2$;
    the prior is uniform on $(-1, 1)^2$. All quantities are dimensionless.

    Args:
        device: Torch device of the prior, the true parameters and exact draws.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: Parameters whose data lie near the origin, shape `(2,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.8.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import TwoMoons
        >>> two_moons = TwoMoons()
        >>> two_moons.simulate(two_moons.prior.sample((10,))).shape
        torch.Size([10, 2])
    """

    prior: BoxUniform
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        ones = torch.ones(2, device=device)
        self.prior = BoxUniform(-ones, ones)
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
        crescent = _draw_crescent(len(theta), theta.dtype, theta.device, generator)
        return crescent + _fold(theta)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        Args:
            theta: Parameters, shape `(..., 2)`.
            x: Points, shape `(..., 2)`. Leading dimensions broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats. It falls
            off quickly but stays finite, unless it is too low for the dtype.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 2, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.

        Example:
            >>> import torch
            >>> from sbi_aalr.simulators import TwoMoons
            >>> TwoMoons().log_likelihood(torch.zeros(2), torch.tensor([0.35, 0.0]))
            tensor(4.8441)
        """
        check_features("theta", theta, 2)
        check_features("x", x, 2)
        check_broadcast(theta, x)
        first, second = (x - _fold(theta)).unbind(-1)
        first = first - _SHIFT
        radius = torch.hypot(first, second).clamp(min=torch.finfo(first.dtype).tiny)
        # A radius below zero, ten standard deviations away, is on the other half.
        score = (torch.where(first < 0, -radius, radius) - _RADIUS) / _SPREAD
        log_angle_and_area = -math.log(math.pi) - radius.log()
        log_radius = -score.square() / 2 - math.log(_SPREAD * math.sqrt(2 * math.pi))
        return log_radius + log_angle_and_area

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw independent samples from the exact posterior p(theta|x_o).

        Parameters enter through two coordinates, one of them folded. Each draw of the
        noise gives the coordinates that explain `x_o`, both signs of the folded one
        are equally likely, and what lies outside the prior is drawn again.

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
            >>> from sbi_aalr.simulators import TwoMoons
            >>> theta = TwoMoons().sample_posterior(1_000, [0.0, 0.0], seed=1)
            >>> theta.shape
            torch.Size([1000, 2])
            >>> bool((theta.abs() < 1).all())
            True
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
            noise = _draw_crescent(size, point.dtype, point.device, generator)
            folded, difference = (point - noise).unbind(-1)
            sign = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
            total = folded * sign
            theta = torch.stack([total - difference, total + difference], 1)
            theta = theta / math.sqrt(2)
            accepted = (folded <= 0) & (theta.abs() < 1).all(1)
            parts.append(theta[accepted])
            kept, tried = kept + len(parts[-1]), tried + size
        draws = torch.cat(parts)[:num_samples]
        return round_into_support(draws, self.prior)


def _fold(theta: Tensor) -> Tensor:
    total, difference = theta.sum(-1), theta[..., 1] - theta[..., 0]
    return torch.stack([-total.abs(), difference], -1) / math.sqrt(2)


def _draw_crescent(
    size: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    uniform = torch.rand(size, dtype=dtype, device=device, generator=generator)
    normal = torch.randn(size, dtype=dtype, device=device, generator=generator)
    angle, radius = math.pi * (uniform - 0.5), _RADIUS + _SPREAD * normal
    return torch.stack([radius * angle.cos() + _SHIFT, radius * angle.sin()], -1)
