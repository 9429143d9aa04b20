"""Gated residual blocks, and a network of them on parameters and data together."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from sbi_aalr.checks import check_positive_int
from sbi_aalr.networks.builder import (
    builds_network,
    check_dropout,
    check_embedding_nets,
)
from sbi_aalr.networks.encode import Encode
from sbi_aalr.networks.mlp import count_features, embed_scaled


class GatedBlock(nn.Module):
    r"""One residual block, $h + W_3 (\mathrm{silu}(W_1 \hat h) \odot W_2 \hat h)$.

    The input is normalised to a root mean square of one first. The product lets a block
    square its features, which log-densities are made of.

    Where a CPU multiplies bfloat16 faster than float32, the products are computed so in
    training; weights, sums and everything else are float32. Second derivatives want
    float32 throughout: see `full_precision`.

    Args:
        width: Number of features.
        dropout: Share of the inner features set to zero in training.

    References:
        Shazeer (2020), arXiv:2002.05202; Zhang & Sennrich (2019), arXiv:1910.07467.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        width = check_positive_int("width", width)
        check_dropout(dropout)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.may_be_quick = True
        # Small at first, so that a deep stack begins close to the identity.
        with torch.no_grad():
            self.down.weight.mul_(0.5)
        nn.init.zeros_(self.down.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Map features `(N, width)` to `(N, width)`."""
        may_be_quick = self.training and self.may_be_quick
        is_quick = may_be_quick and has_quick_bfloat16(rows.device.type)
        with torch.autocast(rows.device.type, torch.bfloat16, enabled=is_quick):
            gate, value = self.up(rms_norm(rows, rows.shape[-1:])).chunk(2, dim=-1)
            return rows + self.down(self.dropout(silu(gate) * value))


class ResidualStack(nn.Sequential):
    """A linear layer, gated blocks, a norm, and a layer to the output.

    Args:
        num_inputs: Features that come in.
        hidden_features: Width of the blocks.
        num_blocks: Number of blocks.
        dropout: Share of inner features set to zero in training.
        last: The last layer, from features to the output.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_features: int,
        num_blocks: int,
        dropout: float,
        last: nn.Module,
    ) -> None:
        first = nn.Linear(num_inputs, hidden_features)
        blocks = [GatedBlock(hidden_features, dropout) for _ in range(num_blocks)]
        super().__init__(first, *blocks, last)

    def forward(self, rows: Tensor) -> Tensor:
        """Map features `(N, num_inputs)` to what the last layer gives."""
        *hidden, last = self
        for layer in hidden:
            rows = layer(rows)
        return last(rms_norm(rows, rows.shape[-1:]))


@contextlib.contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """Keep the gated blocks of a model from bfloat16, in training too."""
    blocks = [m for m in model.modules() if isinstance(m, GatedBlock)]
    for block in blocks:
        block.may_be_quick = False
    try:
        yield
    finally:
        for block in blocks:
            block.may_be_quick = True


@functools.cache
def has_quick_bfloat16(device_type: str) -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones.

    Measured on CPUs with AVX-512 BF16 only: 200 to 90 GFLOP/s on one core.
    """
    checks = (
        getattr(torch.cpu, name, lambda: False)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return device_type == "cpu" and any(check() for check in checks)


def residual_mlp(
    hidden_features: int = 256,
    num_blocks: int = 3,
    dropout: float = 0.0,
    embedding_net_theta: nn.Module | None = None,
    embedding_net_x: nn.Module | None = None,
) -> Callable[[Tensor, Tensor], RatioEstimator]:
    """Return a builder of a residual MLP with gated blocks on (theta, x).

    Args:
        hidden_features: Width of the blocks.
        num_blocks: Number of blocks, of three matrices each.
        dropout: Share of inner features set to zero in training.
        embedding_net_theta: Applied to scaled parameters `(N, D)`; must give `(N, F)`.
        embedding_net_x: Applied to scaled data `(N, *event_shape)`; must give
            `(N, F)`. Without one, data are flattened.

    Returns:
        A callable `build(theta, x) -> RatioEstimator`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is not positive, or `dropout` is no share below one.

    References:
        He et al. (2016), arXiv:1512.03385.

    Example:
        >>> estimator = residual_mlp(32)(torch.randn(64, 5), torch.randn(64, 8))
        >>> estimator(torch.zeros(3, 5), torch.zeros(3, 8)).shape
        torch.Size([3])
    """
    hidden_features = check_positive_int("hidden_features", hidden_features)
    num_blocks = check_positive_int("num_blocks", num_blocks)
    dropout = check_dropout(dropout)
    check_embedding_nets(embedding_net_theta, embedding_net_x)

    @builds_network
    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        embed_theta = embed_encoded(theta, embedding_net_theta)
        embed_x = embed_encoded(x, embedding_net_x)
        width = count_features(embed_theta, theta) + count_features(embed_x, x)
        last = nn.Linear(hidden_features, 1)
        return RatioEstimator(
            net=ResidualStack(width, hidden_features, num_blocks, dropout, last),
            theta_shape=theta.shape[1:],
            x_shape=x.shape[1:],
            embedding_net_theta=embed_theta,
            embedding_net_x=embed_x,
        )

    return build


def embed_encoded(
    batch: Tensor, embedding_net: nn.Module | None, num_octaves: int = 9
) -> nn.Sequential:
    """Scaling and the embedding net; data without one are made flat and encoded."""
    embed = embed_scaled(batch, embedding_net)
    if embedding_net is None:
        embed.append(Encode(batch[0].numel(), num_octaves))
    return embed
