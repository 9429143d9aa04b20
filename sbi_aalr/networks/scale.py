"""Input scaling that survives heavy tails, integers and constant columns."""

import math

import torch
from torch import Tensor, nn

# The distance between these quantiles of a Gaussian is two standard deviations.
_QUANTILES = (0.1587, 0.8413)
# As many as `torch.quantile` took before torch 2.6.
_MAX_ENTRIES = 16_000_000
# Gains of the squashed copies: the first resolves the tails, the last the centre.
_SQUASH_GAINS = (1.0, 10.0)
_CLIP = 3.0
# How many waves there may be, over all features.
_MOST_WAVES = 256


class Scale(nn.Module):
    """Centre and scale each feature by its median and quantiles.

    Heavy tails move a mean and blow up a standard deviation, and then most of the data
    share a small part of the range; quantiles do not see them. Features without spread
    between the quantiles fall back on their standard deviation, constant ones on 1.

    Args:
        batch: Rows to take the scales from, shape `(N, *event_shape)`.
    """

    location: Tensor
    spread: Tensor

    def __init__(self, batch: Tensor) -> None:
        super().__init__()
        num_rows = max(2, _MAX_ENTRIES // max(1, batch[0].numel()))
        rows = batch[:num_rows].detach().double()
        location = rows.median(dim=0).values
        levels = torch.tensor(_QUANTILES, dtype=rows.dtype, device=rows.device)
        low, high = torch.quantile(rows.flatten(1), levels, dim=0)
        spread = ((high - low) / 2).reshape(location.shape)
        spread = torch.where(spread > 0, spread, rows.std(dim=0, correction=0))
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        dtype = batch.dtype if batch.is_floating_point() else torch.get_default_dtype()
        self.register_buffer("location", location.to(dtype))
        self.register_buffer("spread", spread.to(dtype))

    def forward(self, rows: Tensor) -> Tensor:
        """Scale rows, shape `(N, *event_shape)`, to order one."""
        return (rows - self.location) / self.spread


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
        octaves = min(num_octaves, _MOST_WAVES // num_features)
        frequencies = math.pi / 4 * 2.0 ** torch.arange(octaves)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Map scaled features `(N, F)` to `(N, (3 + 2 K) F)` for K frequencies."""
        waves = (rows.unsqueeze(2) * self.frequencies).flatten(1)
        squashed = [torch.asinh(gain * rows) for gain in _SQUASH_GAINS]
        clipped = rows.clamp(-_CLIP, _CLIP)
        return torch.cat((*squashed, clipped, waves.sin(), waves.cos()), dim=1)
