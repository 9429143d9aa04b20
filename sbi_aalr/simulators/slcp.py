"""SLCP, "simple likelihood, complex posterior": a benchmark with an exact answer.

Five parameters set the mean and the covariance of a 2-D Gaussian of which four points
are seen. The covariance depends on the squares of two parameters only, so every
posterior has four modes of equal mass, joined or apart.

References:
    Papamakarios, Sterratt & Murray (2019), arXiv:1805.07226.
    Hermans, Begy & Louppe (2020), arXiv:1903.04057.
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
from sbi_aalr.simulators._slcp_density import BOUND, ReducedPosterior
from sbi_aalr.simulators._slcp_exact import sample_exact

_NUM_PARAMETERS = 5
_NUM_POINTS = 4
_NUM_FEATURES = 2 * _NUM_POINTS
_TRUTH = (0.7, -2.9, -1.0, -0.9, 0.6)


class SLCP:
    r"""Four points of a 2-D Gaussian, with its exact likelihood and posterior.

    The mean is $(\theta_1, \theta_2)$; the standard deviations are $s_1 = \theta_3^2$
    and $s_2 = \theta_4^2$, the correlation is $\rho = \tanh\theta_5$; the prior is
    uniform on $(-3, 3)^5$. All quantities are dimensionless.

    Args:
        device: Torch device of the prior, the true parameters and exact draws.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: The parameters used in the paper, shape `(5,)`.

    References:
        Hermans et al. (2020), arXiv:1903.04057.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import SLCP
        >>> _ = torch.manual_seed(0)
        >>> slcp = SLCP()
        >>> theta = slcp.prior.sample((10,))
        >>> slcp.simulate(theta).shape
        torch.Size([10, 8])
    """

    prior: BoxUniform
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        bounds = torch.full((_NUM_PARAMETERS,), BOUND, device=device)
        self.prior = BoxUniform(-bounds, bounds)
        self.true_parameters = torch.tensor(_TRUTH, device=device)

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw four points for each row of parameters.

        Args:
            theta: Parameters, shape `(N, 5)`, on any device. Rows outside the prior
                are simulated too, and so are zero scales.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            The points as (first, second) coordinate of each in turn, shape `(N, 8)`,
            with theta's dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.

        Example:
            >>> import torch
            >>> from sbi_aalr.simulators import SLCP
            >>> theta = torch.tensor([[1.0, -2.0, 0.0, 0.0, 0.5]])
            >>> SLCP().simulate(theta)
            tensor([[ 1., -2.,  1., -2.,  1., -2.,  1., -2.]])
        """
        check_parameters(theta, _NUM_PARAMETERS)
        noise = torch.randn(
            (2, len(theta), _NUM_POINTS),
            dtype=theta.dtype,
            device=theta.device,
            generator=generator,
        )
        mean1, mean2, root1, root2, theta5 = theta[..., None].unbind(1)
        correlated = torch.tanh(theta5) * noise[0] + noise[1] / torch.cosh(theta5)
        first = mean1 + root1.square() * noise[0]
        second = mean2 + root2.square() * correlated
        return torch.stack([first, second], dim=-1).reshape(len(theta), _NUM_FEATURES)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        The sum runs in float64 where the device has it. Where a scale is exactly zero
        there is no density; the result is minus infinity there.

        Args:
            theta: Parameters, shape `(..., 5)`.
            x: Points as `simulate` gives them, shape `(..., 8)`. Leading dimensions
                broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats. Never NaN;
            minus infinity where it is too low for the dtype.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 5 or 8, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.

        Example:
            >>> import torch
            >>> from sbi_aalr.simulators import SLCP
            >>> theta = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
            >>> SLCP().log_likelihood(theta, torch.zeros(3, 8))
            tensor([-7.3515, -7.3515, -7.3515])
        """
        check_features("theta", theta, _NUM_PARAMETERS)
        check_features("x", x, _NUM_FEATURES)
        check_broadcast(theta, x)
        dtype = torch.promote_types(theta.dtype, x.dtype)
        exact = dtype if theta.device.type == "mps" else torch.float64
        mean1, mean2, root1, root2, theta5 = theta.to(exact)[..., None].unbind(-2)
        points = x.to(exact).unflatten(-1, (_NUM_POINTS, 2))
        degenerate = (root1 * root2 == 0).squeeze(-1)
        root1, root2 = (torch.where(root == 0, 1.0, root) for root in (root1, root2))

        first = (points[..., 0] - mean1) / root1.square()
        second = (points[..., 1] - mean2) / root2.square()
        # 1 - rho^2 = sech(theta_5)^2, which keeps its digits when rho rounds to 1.
        rest = (second - torch.tanh(theta5) * first) * torch.cosh(theta5)
        log_volume = (
            2 * (root1.abs().log() + root2.abs().log())
            - torch.logaddexp(theta5, -theta5)
            + math.log(2)
        )
        log_density = -(first.square() + rest.square()) / 2 - log_volume
        total = (log_density - math.log(2 * math.pi)).sum(-1)
        # Infinite residuals of either sign can meet far outside the prior only.
        hopeless = degenerate | torch.isnan(total)
        return torch.where(hopeless, -math.inf, total).to(dtype)

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        r"""Draw independent samples from the exact posterior p(theta|x_o).

        Rejection sampling, without chains, weights or repeated rows. Given the scales
        and the correlation, the mean is a 2-D Gaussian around the points' average, cut
        off by the prior's box; integrating it out leaves three dimensions. One of them
        is a truncated gamma variable, the other two lie in a rectangle on which the
        density has a proven, adaptively refined upper bound. The signs of $\theta_3$
        and $\theta_4$ are fair coins, because the likelihood depends on their squares:
        the four modes get a quarter each. Every proposal checks the bound.

        Args:
            num_samples: Number of draws S.
            x_o: One observation, shape `(8,)` or `(1, 8)`: a tensor, array or sequence
                of floats. Work in float64 is done on the CPU.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 5)`, float32, on the simulator's device.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape, NaN or infinity, or four equal values in one coordinate
                (its posterior has no finite mass).
            RuntimeError: If too few proposals are accepted, which takes an observation
                far beyond the prior's reach, or if the upper bound is found violated.

        Example:
            >>> from sbi_aalr.simulators import SLCP
            >>> x_o = [1.2, -2.8, -0.3, -3.4, 0.4, -2.9, 1.9, -1.6]
            >>> theta = SLCP().sample_posterior(1_000, x_o, seed=1)
            >>> theta.shape
            torch.Size([1000, 5])
            >>> bool((theta.abs() <= 3).all())
            True
        """
        num_samples = check_positive_int("num_samples", num_samples)
        generator = make_generator(seed)
        points = read_observation(x_o, _NUM_FEATURES).reshape(_NUM_POINTS, 2)
        draws = sample_exact(ReducedPosterior(points), num_samples, generator)
        return round_into_support(draws, self.prior)
