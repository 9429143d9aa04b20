"""Bernoulli GLM: a neuron that spikes when a filtered noise is high, summarised.

A generalised linear model with a logit link, whose posterior is log-concave.

References:
    Polson, Scott & Windle (2013), JASA 108(504), for the posterior.
    Lueckmann et al. (2021), arXiv:2101.04653, task T.5.
"""

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import softplus

from sbi_aalr.checks import check_device
from sbi_aalr.simulators._chains import sample_chains
from sbi_aalr.simulators._interface import (
    check_broadcast,
    check_features,
    check_parameters,
    read_observation,
)

NUM_PARAMETERS = 10
NUM_TIMES = 100
_NUM_WEIGHTS = NUM_PARAMETERS - 1
_OFFSET_PRECISION = 0.5
# The stimulus is one fixed draw of white noise, the benchmark's.
_STIMULUS_SEED = 42
_TRUTH = (0.5, 1.0, 1.5, 0.5, -0.5, -1.0, -0.5, 0.0, 0.5, 0.0)


class BernoulliGLM:
    r"""Ten sufficient statistics of a hundred spikes or silences.

    In each of 100 steps of time there is a spike with probability
    $\mathrm{sigmoid}(v_t^\top\theta)$, where $v_t$ is one and the last nine values of a
    fixed white noise. The statistics are $V^\top y$ of the spikes $y$: their number,
    and sums of the noise before them. The prior is Gaussian: the offset has variance 2,
    and second differences of the nine weights are small, the more so the later.

    Args:
        device: Torch device of the prior, the true parameters and draws.

    Attributes:
        prior: The prior on `device`.
        true_parameters: An offset and a smooth filter, shape `(10,)`.
        design: What the parameters are multiplied by in each step, shape `(100, 10)`,
            dimensionless.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.5.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import BernoulliGLM
        >>> task = BernoulliGLM()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 10])
    """

    prior: MultivariateNormal
    true_parameters: Tensor
    design: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        zeros = torch.zeros(NUM_PARAMETERS, device=device)
        precision = _make_precision().to(device)
        self.prior = MultivariateNormal(
            zeros, precision_matrix=precision, validate_args=False
        )
        self.true_parameters = torch.tensor(_TRUTH, device=device)
        self.design = _make_design()

    def simulate(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw spikes for each row of parameters and summarise them.

        Args:
            theta: Parameters, shape `(N, 10)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            Statistics, shape `(N, 10)`, with theta's dtype and device; see `summarise`.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        return self.summarise(self.simulate_spikes(theta, generator=generator))

    def simulate_spikes(
        self, theta: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw spikes for each row of parameters.

        Args:
            theta: Parameters, shape `(N, 10)`.
            generator: Source of randomness on theta's device; torch's global one by
                default.

        Returns:
            One where there is a spike and zero elsewhere, shape `(N, 100)`, with
            theta's dtype and device.

        Raises:
            TypeError: If theta is not a tensor of floats.
            ValueError: If theta has another shape, no rows, or NaN or infinity in it.
        """
        check_parameters(theta, NUM_PARAMETERS)
        uniform = torch.rand(
            (len(theta), NUM_TIMES),
            dtype=theta.dtype,
            device=theta.device,
            generator=generator,
        )
        return (uniform < torch.sigmoid(theta @ self._design_like(theta).T)).to(theta)

    def summarise(self, spikes: Tensor) -> Tensor:
        """Reduce spikes to sufficient statistics.

        Args:
            spikes: One where there is a spike and zero elsewhere, shape `(..., 100)`.

        Returns:
            Number of spikes, and the sums of the noise at 0 to 8 steps before each of
            them, shape `(..., 10)`.
        """
        return spikes @ self._design_like(spikes)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate log p(x|theta), normalising constants included.

        No two trains of spikes have the same statistics, so that this is the logarithm
        of a probability. Whether any has those given is not checked.

        Args:
            theta: Parameters, shape `(..., 10)`.
            x: Statistics, shape `(..., 10)`. Leading dimensions broadcast against
                theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 10, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.
        """
        check_features("theta", theta, NUM_PARAMETERS)
        check_features("x", x, NUM_PARAMETERS)
        check_broadcast(theta, x)
        log_norm = softplus(theta @ self._design_like(theta).T).sum(-1)
        return (theta * x).sum(-1) - log_norm

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw from the exact posterior by long chains.

        Args:
            num_samples: Number of draws S.
            x_o: One observation, shape `(10,)` or `(1, 10)`: a tensor, array or
                sequence of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 10)`, float32, on the simulator's device. R-hat is at most
            1.01.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape, NaN or infinity.
            RuntimeError: If the chains have not converged, as may be where no train of
                spikes has such statistics.

        Example:
            >>> from sbi_aalr.simulators import BernoulliGLM
            >>> task = BernoulliGLM()
            >>> x_o = task.simulate(task.true_parameters[None])
            >>> task.sample_posterior(100, x_o, seed=1).shape
            torch.Size([100, 10])
        """
        statistics = read_observation(x_o, NUM_PARAMETERS).reshape(NUM_PARAMETERS)
        statistics = statistics.float().to(self.true_parameters.device)
        return sample_chains(
            self.prior,
            lambda theta: self.log_likelihood(theta, statistics),
            num_samples,
            seed,
        )

    def _design_like(self, values: Tensor) -> Tensor:
        return self.design.to(values)


def _make_precision() -> Tensor:
    """Second differences of the weights, and a ridge that grows along them."""
    step = torch.eye(_NUM_WEIGHTS) - torch.diag(torch.ones(_NUM_WEIGHTS - 1), -1)
    ridge = (torch.arange(_NUM_WEIGHTS) / _NUM_WEIGHTS).sqrt()
    root = step @ step + torch.diag(ridge)
    precision = torch.zeros(NUM_PARAMETERS, NUM_PARAMETERS)
    precision[0, 0] = _OFFSET_PRECISION
    precision[1:, 1:] = root.T @ root
    return precision


def _make_design() -> Tensor:
    """A column of ones, and the noise delayed by 0 to 8 steps."""
    # NumPy promises that this generator's numbers never change.
    noise = np.random.RandomState(_STIMULUS_SEED).randn(NUM_TIMES)
    stimulus = torch.from_numpy(noise).float()
    columns = [torch.ones(NUM_TIMES)]
    for delay in range(_NUM_WEIGHTS):
        columns.append(torch.cat([torch.zeros(delay), stimulus[: NUM_TIMES - delay]]))
    return torch.stack(columns, 1)
