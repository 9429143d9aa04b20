"""SIR: how many of a thousand people tested are infected as an epidemic passes.

References:
    Kermack & McKendrick (1927), Proceedings of the Royal Society A 115.
    Lueckmann et al. (2021), arXiv:2101.04653, task T.9.
"""

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

_NUM_PARAMETERS = 2
_NUM_TIMES = 10
_DAYS_BETWEEN = 17.0
_POPULATION = 1_000_000.0
_NUM_TESTED = 1_000.0
_MEDIANS, _SPREADS = (0.4, 0.125), (0.5, 0.2)


class SIR:
    r"""Ten counts of the infected among 1,000 people, 17 days apart.

    Of $N = 10^6$ people, $S$ are susceptible and $I$ infected, one at first:
    $\dot S = -\beta S I / N$ and $\dot I = \beta S I / N - \gamma I$. On the days 0,
    17, ..., 153 the number of positive tests is binomial with probability $I / N$. The
    parameters $\beta$ and $\gamma$ are rates a day; their prior is log-normal with
    medians 0.4 and 0.125, and standard deviations of the logarithms 0.5 and 0.2.

    Args:
        device: Torch device of the prior, the true parameters and draws.

    Attributes:
        prior: The prior on `device`.
        true_parameters: The prior's medians, shape `(2,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.9.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import SIR
        >>> task = SIR()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 10])
    """

    prior: Independent
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        medians = torch.tensor(_MEDIANS, device=device)
        spreads = torch.tensor(_SPREADS, device=device)
        self.prior = Independent(
            LogNormal(medians.log(), spreads, validate_args=False),
            1,
            validate_args=False,
        )
        self.true_parameters = medians

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Let an epidemic pass for each row of parameters, and test.

        Args:
            theta: Positive rates, a day, shape `(N, 2)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Positive tests on each day, shape `(N, 10)`, with theta's dtype and device.
            NaN where the equations could not be solved, which takes rates that are
            hundreds of times the prior's.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, values that are not
                positive, or NaN or infinity in it.
        """
        check_parameters(theta, _NUM_PARAMETERS)
        check_positive("theta", theta)
        share = _solve_infected(theta)
        counts = torch.binomial(
            torch.full_like(share, _NUM_TESTED), share.nan_to_num(0.0), generator
        )
        return torch.where(share.isnan(), torch.nan, counts).to(theta.dtype)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        Args:
            theta: Rates, a day, shape `(..., 2)`.
            x: Positive tests on each day, shape `(..., 10)`. Leading dimensions
                broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats; minus
            infinity where a rate is not positive, or a count is none.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 2 or 10, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.
        """
        check_features("theta", theta, _NUM_PARAMETERS)
        check_features("x", x, _NUM_TIMES)
        check_broadcast(theta, x)
        positive = (theta > 0).all(-1)
        rates = torch.where(positive.unsqueeze(-1), theta, 1.0)
        share = _solve_infected(rates.reshape(-1, _NUM_PARAMETERS))
        share = share.reshape(*theta.shape[:-1], _NUM_TIMES)
        possible = _are_counts(x)
        count = torch.where(possible.unsqueeze(-1), x, 0.0).to(share)
        log_choices = (
            torch.lgamma(torch.full_like(count, _NUM_TESTED + 1))
            - torch.lgamma(count + 1)
            - torch.lgamma(_NUM_TESTED - count + 1)
        )
        log_mass = (
            log_choices
            + torch.special.xlogy(count, share)
            + torch.special.xlog1py(_NUM_TESTED - count, -share)
        ).sum(-1)
        valid = positive & possible & ~log_mass.isnan()
        dtype = torch.promote_types(theta.dtype, x.dtype)
        return torch.where(valid, log_mass, -torch.inf).to(dtype)

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw from the exact posterior by long chains.

        Args:
            num_samples: Number of draws S.
            x_o: One observation of whole numbers from 0 to 1,000, shape `(10,)` or
                `(1, 10)`: a tensor, array or sequence of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 2)`, float32, on the simulator's device. R-hat is at most
            1.01.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape or other values.
            RuntimeError: If the chains have not converged.
        """
        counts = read_observation(x_o, _NUM_TIMES).reshape(_NUM_TIMES)
        if not bool(_are_counts(counts)):
            raise ValueError(
                f"`x_o` must be of whole numbers from 0 to {_NUM_TESTED:.0f}, got "
                f"{counts.tolist()}."
            )
        counts = counts.float().to(self.true_parameters.device)
        return sample_chains(
            self.prior,
            lambda theta: self.log_likelihood(theta, counts),
            num_samples,
            seed,
        )


def _solve_infected(theta: Tensor) -> Tensor:
    """Share of the infected at each time, `(N, 2)` -> `(N, 10)`, float64."""
    contact, recovery = theta.unbind(1)
    rates = torch.stack([torch.zeros_like(contact), contact, recovery, contact], 1)
    first = 1 / _POPULATION
    solution = solve(rates, (1 - first, first), _DAYS_BETWEEN, _NUM_TIMES)
    # Rounding must not leave more than all.
    return solution[..., 1].exp().clamp(max=1.0)


def _are_counts(x: Tensor) -> Tensor:
    return ((x >= 0) & (x <= _NUM_TESTED) & (x == x.round())).all(-1)
