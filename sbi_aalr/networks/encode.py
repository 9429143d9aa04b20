"""Encoding of scaled inputs, so that a network sees details of any size."""

import math

import torch
from torch import Tensor, nn

from sbi_aalr.checks import check_non_negative_int, check_positive_int

# Gains of the squashed copies: the first resolves the tails, the last the centre.
_SQUASH_GAINS = (1.0, 10.0)
_CLIP = 3.0
# Its square is a number of float32 still.
_LARGEST = 1e18
# How many waves there may be, over all features.
_MOST_WAVES = 256


class Encode(nn.Module):
    r"""Copies of scaled features that show tails, bulk, and details of any size.

    A network sees little of a feature that reaches 100 spreads while most of it lies
    within one, and learns slowly what happens over a hundredth of its range. The copies
    are $\operatorname{asinh}(z)$ and $\operatorname{asinh}(10z)$, logarithmic in the
    tails, $z$ clipped at three spreads, and sines and cosines of $2^k \pi z / 4$.
    Products of sines and cosines of theta and x are peaks where the two agree, which is
    what a narrow posterior looks like.

    Args:
        num_features: Features of each row.
        num_octaves: Number of frequencies, if there are not too many features: 9 up to
            28 features, and none from 257 on.

    References:
        Tancik et al. (2020), arXiv:2006.10739, for why frequencies help.

    Example:
        >>> Encode(2)(torch.tensor([[0.0, 1e6]])).shape
        torch.Size([1, 42])
    """

    frequencies: Tensor

    def __init__(self, num_features: int, num_octaves: int = 9) -> None:
        super().__init__()
        num_features = check_positive_int("num_features", num_features)
        num_octaves = check_non_negative_int("num_octaves", num_octaves)
        octaves = min(num_octaves, _MOST_WAVES // num_features)
        octave = torch.arange(octaves, dtype=torch.float32)
        self.register_buffer("frequencies", math.pi / 4 * 2.0**octave, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Map scaled features `(N, F)` to `(N, (3 + 2 K) F)` for K frequencies."""
        squashed = squash(torch.cat([gain * rows for gain in _SQUASH_GAINS], dim=1))
        clipped = rows.clamp(-_CLIP, _CLIP)
        if not len(self.frequencies):
            return torch.cat((squashed, clipped), dim=1)
        waves = (rows.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat((squashed, clipped, waves.sin(), waves.cos()), dim=1)


def squash(z: Tensor) -> Tensor:
    """Inverse hyperbolic sine, which takes a CPU a third of what torch's own does.

    Beyond 1e18 it is constant. Where a gradient is asked for, it is torch's own.
    """
    if z.requires_grad:
        return torch.asinh(z)
    size = z.abs().clamp(max=_LARGEST)
    root = torch.addcmul(size.new_ones(()), size, size).sqrt()
    return torch.addcdiv(size, size * size, root + 1).log1p().copysign(z)
