"""A network that perturbs data in training, whose every weight is a hyperparameter."""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from sbi_aalr.checks import check_positive_float, check_positive_int
from sbi_aalr.networks.scale import Scale
from sbi_aalr.tuning.noise import check_rows


class Augmentation(nn.Module):
    """Perturb rows by a network of them and of noise, in training only.

    What comes out is the row, plus a product of features of the row and of noise. So it
    can learn how much noise a row bears, and along which directions it may be moved. On
    average it moves no row anywhere, whatever its weights: tuning data cannot be
    written into it as they could into a network that shifts rows. It begins as a small
    perturbation.

    Args:
        batch: Rows to take location and spread of each column from, shape
            `(N, *event_shape)`.
        hidden_features: Width of its layers.
        noise_features: Independent Gaussian numbers that it gets for each row.
        start: Size of the perturbation at first, in spreads.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is not positive.

    References:
        Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590, section 5.3.

    Example:
        >>> rows = torch.randn(100, 3)
        >>> augment = Augmentation(rows)
        >>> bool((augment(rows) - rows).std() < 0.3)
        True
        >>> torch.equal(augment.eval()(rows), rows)
        True
    """

    def __init__(
        self,
        batch: Tensor,
        hidden_features: int = 64,
        noise_features: int = 16,
        start: float = 0.1,
    ) -> None:
        super().__init__()
        check_rows(batch)
        hidden = check_positive_int("hidden_features", hidden_features)
        self._num_noises = check_positive_int("noise_features", noise_features)
        start = check_positive_float("start", start)
        self.scale = Scale(batch)
        width = batch[0].numel()
        self.first = nn.Linear(width, hidden)
        self.of_rows = nn.Linear(hidden, hidden)
        # Odd in the noise, without biases: hence no mean.
        self.of_noise = nn.Linear(self._num_noises, hidden, bias=False)
        self.last = nn.Linear(hidden, width, bias=False)
        self.to(batch)
        with torch.no_grad():
            nn.init.ones_(self.of_rows.bias)
            size = self.perturb(batch[:256]).square().mean().sqrt()
            self.last.weight.mul_(start / size)

    def forward(self, rows: Tensor) -> Tensor:
        """Perturb rows, shape `(N, *event_shape)`, in training."""
        if not self.training:
            return rows
        moved = self.perturb(rows).unflatten(1, rows.shape[1:])
        return rows + moved * self.scale.spread

    def perturb(self, rows: Tensor) -> Tensor:
        """Draw what is added to each row, shape `(N, F)`, in spreads."""
        scaled = self.scale(rows).flatten(1)
        noise = torch.randn(
            len(rows), self._num_noises, dtype=scaled.dtype, device=scaled.device
        )
        of_rows = self.of_rows(silu(self.first(scaled)))
        return self.last(self.of_noise(noise).tanh() * of_rows)
