"""Bernoulli GLM as it is seen: a hundred spikes or silences, without summaries.

References:
    Lueckmann et al. (2021), arXiv:2101.04653, task T.6.
"""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from sbi_aalr.checks import check_device
from sbi_aalr.simulators._interface import (
    check_broadcast,
    check_features,
    read_observation,
)
from sbi_aalr.simulators.bernoulli_glm import (
    NUM_PARAMETERS,
    NUM_TIMES,
    BernoulliGLM,
)


class BernoulliGLMRaw:
    """The spikes of `BernoulliGLM` themselves; prior and posterior are the same.

    Args:
        device: Torch device of the prior, the true parameters and draws.

    Attributes:
        prior: The prior on `device`.
        true_parameters: An offset and a smooth filter, shape `(10,)`.

    References:
        Lueckmann et al. (2021), arXiv:2101.04653, task T.6.

    Example:
        >>> import torch
        >>> from sbi_aalr.simulators import BernoulliGLMRaw
        >>> task = BernoulliGLMRaw()
        >>> task.simulate(task.prior.sample((5,))).shape
        torch.Size([5, 100])
    """

    prior: MultivariateNormal
    true_parameters: Tensor

    def __init__(self, device: str | torch.device = "cpu") -> None:
        device = check_device("device", device)
        self._summarised = BernoulliGLM(device)
        self.prior = self._summarised.prior
        self.true_parameters = self._summarised.true_parameters

    def simulate(
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
        return self._summarised.simulate_spikes(theta, generator=generator)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate the log-probability of spikes.

        Args:
            theta: Parameters, shape `(..., 10)`.
            x: Spikes, shape `(..., 100)`. Leading dimensions broadcast against theta's.

        Returns:
            Log-likelihood, shape of the broadcast leading dimensions, nats; minus
            infinity where x is anything but ones and zeros.

        Raises:
            TypeError: If theta or x is not a tensor of floats.
            ValueError: If a last dimension is not 10 or 100, if the leading ones do not
                broadcast, if one is empty, or if there is NaN or infinity.
        """
        check_features("theta", theta, NUM_PARAMETERS)
        check_features("x", x, NUM_TIMES)
        check_broadcast(theta, x)
        log_likelihood = self._summarised.log_likelihood(
            theta, self._summarised.summarise(x)
        )
        return torch.where(_are_spikes(x), log_likelihood, -torch.inf)

    def sample_posterior(
        self, num_samples: int, x_o: object, *, seed: int | None = None
    ) -> Tensor:
        """Draw from the exact posterior, which is that of the statistics.

        Args:
            num_samples: Number of draws S.
            x_o: One observation of ones and zeros, shape `(100,)` or `(1, 100)`: a
                tensor, array or sequence of floats.
            seed: Makes the draws reproducible; torch's global seed decides by default.

        Returns:
            Draws, shape `(S, 10)`, float32, on the simulator's device. R-hat is at most
            1.01.

        Raises:
            TypeError: If num_samples or seed is not an int, or x_o holds no floats.
            ValueError: If num_samples is not positive, seed is negative, or x_o has
                another shape or other values.
            RuntimeError: If the chains have not converged.
        """
        spikes = read_observation(x_o, NUM_TIMES)
        if not bool(_are_spikes(spikes).all()):
            raise ValueError(
                "`x_o` must be of ones and zeros, got values from "
                f"{float(spikes.min()):.4g} to {float(spikes.max()):.4g}."
            )
        statistics = self._summarised.summarise(spikes)
        return self._summarised.sample_posterior(num_samples, statistics, seed=seed)


def _are_spikes(x: Tensor) -> Tensor:
    return ((x == 0) | (x == 1)).all(-1)
