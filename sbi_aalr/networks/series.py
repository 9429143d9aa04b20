"""What a network sees of a series: numbers in order, of which neighbours are alike."""

import torch
from torch import Tensor, nn

from sbi_aalr.networks.encode import squash
from sbi_aalr.networks.scale import Scale

_CHANNELS, _KERNEL = 32, 5
# Positions of a long series that are left after the first layer, about.
_MOST_POSITIONS = 128
# Stretches of a series, of which averages are taken beside that of the whole.
_STRETCHES = 4
_NUM_FEATURES = 16
# Of fewer numbers no position is left for each stretch.
_LEAST_NUMBERS = 15
_TINY = 1e-6


class Series(nn.Module):
    """Features of a series: convolutions, averaged over the whole and over quarters.

    Three copies of the numbers go in: each scaled by itself; all with one location and
    one spread; and the differences of these, which are what there is of the steps of a
    random walk that has gone far.

    Args:
        scale: The scale of the rows.
        scaled: Scaled rows, shape `(N, F)`, with F of 15 at least.

    Raises:
        ValueError: If the rows have fewer numbers.

    Example:
        >>> rows = torch.randn(50, 100)
        >>> scale = Scale(rows)
        >>> Series(scale, scale(rows))(scale(rows)).shape
        torch.Size([50, 16])
    """

    num_features = _NUM_FEATURES
    gain: Tensor
    shift: Tensor
    step: Tensor
    averages: Tensor

    def __init__(self, scale: Scale, scaled: Tensor) -> None:
        super().__init__()
        if scaled.shape[1] < _LEAST_NUMBERS:
            raise ValueError(
                f"A series (`is_series`) must have {_LEAST_NUMBERS} numbers or more, "
                f"got {scaled.shape[1]}."
            )
        # What never changes has no unit of its own.
        varies = scaled.amax(dim=0) > scaled.amin(dim=0)
        varies = varies if varies.any() else torch.ones_like(varies)
        place = scale.location.double()
        if scale.remainder is not None:
            place = place + scale.remainder
        centred = place - place[varies].median()
        unit = torch.maximum(
            scale.spread[varies].median(), centred[varies].abs().median()
        )
        self.register_buffer("gain", (scale.spread / unit).float())
        self.register_buffer("shift", (centred / unit).float())
        steps = self._share(scaled).diff(dim=1).abs()
        vary = varies[1:] & varies[:-1]
        steps = steps[:, vary] if vary.any() else steps
        self.register_buffer("step", steps.median().clamp(min=_TINY))
        stride = -(-scaled.shape[1] // _MOST_POSITIONS)
        self.body = nn.Sequential(
            nn.Conv1d(3, _CHANNELS, max(_KERNEL, 2 * stride + 1), stride),
            nn.SiLU(),
            nn.Conv1d(_CHANNELS, _CHANNELS, _KERNEL, stride=2),
            nn.SiLU(),
        )
        with torch.no_grad():
            num_positions = self._convolve(scaled[:1]).shape[2]
        self.register_buffer("averages", _average(num_positions), persistent=False)
        self.last = nn.Linear(_CHANNELS * (1 + _STRETCHES), _NUM_FEATURES)

    def forward(self, scaled: Tensor) -> Tensor:
        """Map scaled rows `(N, F)` to features `(N, 16)`."""
        return self.last((self._convolve(scaled) @ self.averages).flatten(1))

    def _share(self, scaled: Tensor) -> Tensor:
        """All numbers in one unit."""
        return scaled * self.gain + self.shift

    def _convolve(self, scaled: Tensor) -> Tensor:
        shared = self._share(scaled)
        steps = nn.functional.pad(shared.diff(dim=1) / self.step, (1, 0))
        found: Tensor = self.body(squash(torch.stack((scaled, shared, steps), dim=1)))
        return found


def _average(num_positions: int) -> Tensor:
    """What takes averages over all positions and over stretches, as a matrix."""
    every = torch.arange(num_positions)
    groups = (every, *every.tensor_split(_STRETCHES))
    averages = torch.zeros(num_positions, len(groups))
    for column, group in enumerate(groups):
        averages[group, column] = 1 / len(group)
    return averages
