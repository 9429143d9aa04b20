"""SLCP hidden among 92 features that say nothing about the parameters.

References:
    Greenberg, Nonnenmacher & Macke (2019), arXiv:1905.07488.
    Lueckmann et al. (2021), arXiv:2101.04653, task T.4.
"""

from typing import Any

import numpy as np
import torch
from sbi.utils import BoxUniform
from torch import Tensor

from sbi_aalr.simulators._interface import (
    check_features,
    check_parameters,
    read_observation,
)
from sbi_aalr.simulators.slcp import SLCP

_NUM_PARAMETERS = 5
_NUM_INFORMATIVE = 8
_NUM_DISTRACTORS = 92
_NUM_FEATURES = _NUM_INFORMATIVE + _NUM_DISTRACTORS
_NUM_COMPONENTS = 20
# The task is one fixed draw of the mixture and of the order of the features, which is
# the benchmark's.
_TASK_SEED = 42


class SLCPDistractors:
    r"""The eight features of `SLCP` and 92 distractors, in a fixed random order.

    The distractors come from a mixture of 20 Student t distributions with two degrees
    of freedom in 92 dimensions: locations $\mu_i \sim N(0, 15^2)$; the lower triangles
    of the factors of the scale matrices are $N(0, 9)$, with $3 e^{N(0, 1)}$ added on
    the diagonal. They are the same for every parameter, so that the posterior is that
    of `SLCP`. Mixture and order are one fixed draw, that of the benchmark.

    Args:
        device: Torch device of the prior, the true parameters and exact draws.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: The parameters used in the paper, shape `(5,)`.
        informative: Where SLCP's eight features are among the 100, in their order,
            shape `(8,)`.
        distractors: Where the distractors are, in the mixture's order, shape `(92,)`.
        locations: Where the components of the mixture lie, shape `(20, 92)`.
        factors: Lower triangular factors of their scale matrices, shape
            `(20, 92, 92)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.4.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import SLCPDistractors
        >>> task = SLCPDistractors()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 100])
    """

    prior: BoxUniform
    true_parameters: Tensor
    informative: Tensor
    distractors: Tensor
    locations: Tensor
    factors: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._slcp = SLCP(device)
        self.prior, self.true_parameters = self._slcp.prior, self._slcp.true_parameters
        self.locations, self.factors, self._order = _draw_task()
        places = self._order.argsort()
        self.informative = places[:_NUM_INFORMATIVE]
        self.distractors = places[_NUM_INFORMATIVE:]

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Simulate SLCP and hide its features among distractors.

        Args:
            theta: Parameters, shape `(N, 5)`. Rows outside the prior are simulated too.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Features, shape `(N, 100)`, with theta's dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        check_parameters(theta, _NUM_PARAMETERS)
        points = self._slcp.simulate(theta, generator=generator)
        distractors = self._draw_distractors(theta, generator)
        return torch.cat([points, distractors], 1)[:, self._order.to(theta.device)]

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate the log-likelihood of SLCP's eight features.

        The distractors' density does not depend on theta, so that log p(x|theta) is
        this up to a constant of x. It is left out because it is out of the reach of
        floating point: the mixture's scale matrices are all but singular.

        Args:
            theta: Parameters, shape `(..., 5)`.
            x: Features, shape `(..., 100)`. Leading dimensions broadcast against
                theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats; minus
            infinity where a scale is zero.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 5 or 100, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.
        """
        check_features("x", x, _NUM_FEATURES)
        return self._slcp.log_likelihood(theta, x[..., self.informative.to(x.device)])

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw independent samples from the exact posterior, which is that of SLCP.

        Args:
            num_samples: Number of draws S.
            x_o: One observation, shape `(100,)` or `(1, 100)`: a tensor, array or
                sequence of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 5)`, float32, on the simulator's device.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape, NaN or infinity.
            RuntimeError: As in `SLCP.sample_posterior`.
        """
        features = read_observation(x_o, _NUM_FEATURES).reshape(_NUM_FEATURES)
        return self._slcp.sample_posterior(
            num_samples, features[self.informative], seed=seed
        )

    def _draw_distractors(
        self, theta: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        size, device, dtype = len(theta), theta.device, theta.dtype
        options: dict[str, Any] = {"device": device, "generator": generator}
        component = torch.randint(0, _NUM_COMPONENTS, (size,), **options)
        noise = torch.randn(size, _NUM_DISTRACTORS, dtype=dtype, **options)
        # Chi-squared with two degrees of freedom is twice an exponential variable. Not
        # zero, which would put a feature at infinity.
        uniform = torch.rand(size, 1, dtype=dtype, **options)
        stretch = (-torch.log1p(-uniform)).clamp(min=torch.finfo(dtype).eps).rsqrt()
        distractors = torch.empty_like(noise)
        for index in range(_NUM_COMPONENTS):
            rows = component == index
            factor = self.factors[index].to(device, dtype)
            location = self.locations[index].to(device, dtype)
            distractors[rows] = location + (noise[rows] @ factor.T) * stretch[rows]
        return distractors


def _draw_task() -> tuple[Tensor, Tensor, Tensor]:
    """Locations, factors and the order of the features, in the benchmark's order."""
    # NumPy promises that this generator's numbers never change.
    source = np.random.RandomState(_TASK_SEED)
    locations = 15 * source.randn(_NUM_COMPONENTS, _NUM_DISTRACTORS)
    factors = []
    for _ in range(_NUM_COMPONENTS):
        square = source.randn(_NUM_DISTRACTORS, _NUM_DISTRACTORS)
        diagonal = np.exp(source.randn(_NUM_DISTRACTORS))
        factors.append(3 * (np.tril(square) + np.diag(diagonal)))
    return (
        torch.from_numpy(locations).float(),
        torch.from_numpy(np.stack(factors)).float(),
        torch.from_numpy(source.permutation(_NUM_FEATURES)),
    )
