"""The M/G/1 queue: departures are seen, arrivals are not.

There is no tractable likelihood of the summaries: use calibration and the ratio test.

References:
    Blum & Francois (2010), Statistics and Computing 20(1).
    Papamakarios, Sterratt & Murray (2019), arXiv:1805.07226.
    Hermans, Begy & Louppe (2020), arXiv:1903.04057.
"""

import torch
from sbi.utils import BoxUniform
from torch import Tensor

from sbi_aalr.checks import check_device
from sbi_aalr.simulators._interface import check_parameters

_NUM_CUSTOMERS = 50
_NUM_PERCENTILES = 5
_UPPER = (10.0, 10.0, 1 / 3)
_TRUTH = (1.0, 4.0, 0.2)


class MG1:
    r"""Percentiles of the times between departures from a queue with one server.

    Customers arrive with exponential gaps of rate $\theta_3$ and are served one after
    the other; each service takes a time uniform on $(\theta_1, \theta_1 + \theta_2)$.
    Of 50 customers, five percentiles of the gaps between departures are kept: 0, 25,
    50, 75 and 100. The prior is uniform on $(0, 10) \times (0, 10) \times (0, 1/3)$.
    Times are in one arbitrary unit, the rate is its inverse.

    Args:
        device: Torch device of the prior and the true parameters.

    Attributes:
        prior: The prior, a `BoxUniform` on `device`.
        true_parameters: The parameters used in the paper, shape `(3,)`: services of 1
            to 5, and a rate of 0.2.

    References:
        Hermans et al. (2020), arXiv:1903.04057.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import MG1
        >>> queue = MG1()
        >>> queue.simulate(queue.prior.sample((10,))).shape
        torch.Size([10, 5])
    """

    prior: BoxUniform
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        upper = torch.tensor(_UPPER, device=device)
        self.prior = BoxUniform(torch.zeros_like(upper), upper)
        self.true_parameters = torch.tensor(_TRUTH, device=device)

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Run one queue for each row of parameters.

        Args:
            theta: Parameters, shape `(N, 3)`: shortest service, range of services, and
                rate of arrivals, which must be positive.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Percentiles of the gaps between departures, shape `(N, 5)`, with theta's
            dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, NaN or infinity, negative
                times or a rate that is not positive.
        """
        check_parameters(theta, 3)
        if bool((theta[:, :2] < 0).any()) or bool((theta[:, 2] <= 0).any()):
            raise ValueError(
                "`theta` must have times of at least 0 and a positive rate, got a row "
                f"with {theta.amin(0).tolist()} as the smallest values."
            )
        uniform = torch.rand(
            (2, len(theta), _NUM_CUSTOMERS),
            dtype=theta.dtype,
            device=theta.device,
            generator=generator,
        )
        shortest, width, rate = theta.T.unsqueeze(-1)
        service = shortest + width * uniform[0]
        arrival = (-torch.log1p(-uniform[1]) / rate).cumsum(1)
        gaps = []
        departure = torch.zeros_like(arrival[:, 0])
        for customer in range(_NUM_CUSTOMERS):
            idle = (arrival[:, customer] - departure).clamp(min=0)
            gaps.append(idle + service[:, customer])
            departure = departure + gaps[-1]
        levels = torch.linspace(0, 1, _NUM_PERCENTILES).to(theta)
        return torch.quantile(torch.stack(gaps, 1), levels, dim=1).T.contiguous()
