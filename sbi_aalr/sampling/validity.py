r"""How often a simulator succeeds at some parameters, and the prior of what does.

Where failed simulations are left out, the others are draws of $p(\theta | v)$ and
$p(x | \theta, v)$, for $v$ the event that a simulation is valid. A ratio learnt from
them is $p(x | \theta, v) / p(x | v)$, and the posterior of a valid observation

$$p(\theta | x, v) \propto p(x | \theta, v)\, p(v | \theta)\, p(\theta).$$

So the ratio goes with the prior $p(\theta | v) \propto p(v | \theta)\, p(\theta)$: with
the parameters that are left after failures were left out.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from sbi.utils.user_input_checks_utils import move_distribution_to_device
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.nn.functional import linear, logsigmoid, silu

from sbi_aalr.seeding import seeded

_BLOCK_ROWS = 2**14
_SHARE_ROWS = 2**17
_MOST_DRAWS = 10**9
# Below the least of float32 there is nothing to tell apart.
_LEAST = torch.finfo(torch.float32).tiny


class Validity:
    """The probability that a simulation succeeds, as a function of theta.

    A small network on scaled parameters gives its log-odds.

    Args:
        location: Subtracted from the parameters, shape `(D,)`.
        spread: What is left is divided by this, shape `(D,)`.
        logarithmic: 1.0 for parameters whose logarithm is taken first, else 0.0.
        weights: Of each layer a matrix `(out, in)` and a bias `(out,)`; the last layer
            has one output.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> weights = [torch.tensor([[-2.0]]), torch.tensor([0.0])]
        >>> validity = Validity(*torch.tensor([[0.0], [1.0], [0.0]]), weights)
        >>> validity.log_prob(torch.tensor([[0.0], [3.0]])).exp()
        tensor([0.5000, 0.0025])
    """

    def __init__(
        self,
        location: Tensor,
        spread: Tensor,
        logarithmic: Tensor,
        weights: Sequence[Tensor],
    ) -> None:
        self.location, self.spread = location, spread
        self.logarithmic, self.weights = logarithmic, list(weights)
        width = len(location) if location.ndim == 1 else -1
        fits = spread.shape == logarithmic.shape == location.shape
        for matrix, bias in zip(self.weights[::2], self.weights[1::2], strict=False):
            fits &= matrix.ndim == 2 and matrix.shape[1:] == (width,)
            fits &= bias.shape == matrix.shape[:1]
            width = len(bias) if bias.ndim == 1 else -1
        if not fits or width != 1 or not weights or len(weights) % 2:
            raise ValueError(
                "`weights` must be those of layers from `location` to one output, got "
                f"{[tuple(tensor.shape) for tensor in weights]}."
            )

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log-probability of success, shape `(..., D)` -> `(...)`, nats."""
        return logsigmoid(self.find_log_odds(theta))

    def find_log_odds(self, theta: Tensor) -> Tensor:
        """Log-odds of success, shape `(..., D)` -> `(...)`, nats."""
        rows = torch.where(self.logarithmic > 0, theta.clamp(min=_LEAST).log(), theta)
        return apply_layers(self.weights, (rows - self.location) / self.spread)

    def to(self, device: str | torch.device) -> "Validity":
        """The same on another device."""
        return Validity(
            self.location.to(device),
            self.spread.to(device),
            self.logarithmic.to(device),
            [tensor.to(device) for tensor in self.weights],
        )


def apply_layers(weights: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Layers with SiLU between them, shape `(..., D)` -> `(...)`."""
    for number in range(0, len(weights), 2):
        rows = linear(rows, weights[number], weights[number + 1])
        if number + 2 < len(weights):
            rows = silu(rows)
    return rows.squeeze(-1)


class ValidPrior(Distribution):
    """A prior, given that a simulation succeeds.

    Args:
        prior: The prior.
        validity: How often simulations succeed.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, prior: Distribution, validity: Validity) -> None:
        super().__init__(prior.batch_shape, prior.event_shape, validate_args=False)
        self.prior = prior
        self.validity = validity
        self._log_share: float | None = None

    @property
    def support(self) -> Any:
        """Support of the prior itself."""
        return self.prior.support

    @property
    def mean(self) -> Tensor:
        """Mean of the prior itself."""
        return self.prior.mean

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of the prior itself."""
        return self.prior.stddev

    def to(self, device: str | torch.device) -> None:
        """Move it to a device, in place as sbi's priors do."""
        self.prior = move_distribution_to_device(self.prior, device)
        self.validity = self.validity.to(device)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by rejection.

        Args:
            sample_shape: Shape of the draws.

        Returns:
            Draws, shape `(*sample_shape, D)`.

        Raises:
            RuntimeError: If almost nothing succeeds.
        """
        shape = Size(sample_shape)
        wanted, pieces, found, proposed = shape.numel(), [], 0, 0
        while found < wanted:
            if proposed > _MOST_DRAWS:
                raise RuntimeError(
                    f"Only {found:,} of {proposed:,} draws of the prior would be valid "
                    f"simulations, and {wanted:,} were asked for. Choose a narrower "
                    "prior, or mend the simulator."
                )
            theta = self.prior.sample((min(max(wanted, 64), _BLOCK_ROWS),))
            log_share = torch.rand(len(theta), device=theta.device).log()
            kept = theta[log_share < self.validity.log_prob(theta)]
            proposed, found = proposed + len(theta), found + len(kept)
            pieces.append(kept)
        return torch.cat(pieces)[:wanted].reshape(*shape, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, as normalised by draws of the prior.

        Args:
            value: Parameters, shape `(..., D)`.

        Returns:
            Log-densities, shape `(...)`.
        """
        if self._log_share is None:
            self._log_share = self._measure_log_share()
        valid = self.validity.log_prob(value)
        return self.prior.log_prob(value) + valid - self._log_share

    @torch.no_grad()
    def _measure_log_share(self) -> float:
        """Logarithm of the share of the prior's draws that succeed."""
        with seeded(0):
            theta = self.prior.sample((_SHARE_ROWS,))
        log_prob = self.validity.log_prob(theta)
        return float(torch.logsumexp(log_prob, dim=0)) - math.log(_SHARE_ROWS)
