r"""Two towers: one network for parameters, one for data, and a product of the two.

With embeddings g of theta and h of x, each with one more number for an offset,

    logit(theta, x) = g(theta) . h(x) / sqrt(F) + a(theta) + b(x).

A log-likelihood of the exponential family is of this form exactly, with natural
parameters g and sufficient statistics h. Both grow without bound where noise gets
small; so their features are numbers times exponentials of others.

One matrix product of the embeddings of N parameters and M data gives the logits of all
N M pairs. In training every x then meets every theta of its batch; in sampling x is
embedded once, and parameters that were embedded once serve every observation.
"""

from collections.abc import Callable

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.checks import check_non_negative_int, check_positive_int
from sbi_aalr.networks.builder import (
    builds_network,
    check_dropout,
    check_embedding_nets,
)
from sbi_aalr.networks.mlp import count_features
from sbi_aalr.networks.residual import ResidualStack, embed_encoded

# Products of two features stay below e^16, so that no logit overflows.
_LARGEST_LOG_SCALE = 8.0


class SeparableHead(nn.Module):
    """The logit of two embeddings: their scaled product and an offset of each.

    Args:
        num_features: Features in each product, F; an embedding has F + 1 numbers, the
            offset last.

    Example:
        >>> head = SeparableHead(4)
        >>> theta, x = torch.randn(3, 5), torch.randn(2, 5)
        >>> pairs = head.all_pairs(theta, x)
        >>> single = head(torch.cat((theta[:2], x), dim=1)).squeeze(1)
        >>> torch.allclose(pairs[:2].diag(), single, atol=1e-5)
        True
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = check_positive_int("num_features", num_features)

    def forward(self, embedded: Tensor) -> Tensor:
        """Logits of pairs, `cat(embedded theta, embedded x)` -> `(N, 1)`."""
        theta, x = embedded.split(self.num_features + 1, dim=-1)
        return self.row_pairs(theta, x).unsqueeze(-1)

    def row_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Logits row by row, `(N, F + 1)` twice -> `(N,)`, nats."""
        size, theta, x = self.num_features, embedded_theta, embedded_x
        product = (theta[..., :size] * x[..., :size]).sum(dim=-1)
        return product * size**-0.5 + theta[..., size] + x[..., size]

    def all_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Logits of every pair by one matrix product.

        Args:
            embedded_theta: Shape `(N, F + 1)`.
            embedded_x: Shape `(M, F + 1)`.

        Returns:
            Logits, shape `(N, M)`, nats.
        """
        size = self.num_features
        offsets = embedded_theta[:, size:] + embedded_x[:, size:].T
        return torch.addmm(
            offsets,
            embedded_theta[:, :size],
            embedded_x[:, :size].T,
            alpha=size**-0.5,
        )


class Magnify(nn.Module):
    r"""A last layer whose features range over many orders of magnitude.

    A linear layer gives values v, log-scales s and an offset; out come the products
    $v \odot e^s$ and the offset. What a network gives otherwise is of order one. An
    inverse variance is not, and its logarithm is a function that is learned easily.

    Args:
        num_inputs: Features that come in.
        num_features: Features that go out, F, besides the offset.

    Example:
        >>> Magnify(8, 4)(torch.randn(3, 8)).shape
        torch.Size([3, 5])
    """

    def __init__(self, num_inputs: int, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.linear = nn.Linear(num_inputs, 2 * num_features + 1)
        # All scales are about one at first.
        with torch.no_grad():
            self.linear.weight[num_features:-1].mul_(0.1)
            self.linear.bias[num_features:-1].zero_()

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows `(N, num_inputs)` to `(N, F + 1)`."""
        size = self.num_features
        value, log_scale, offset = self.linear(rows).split((size, size, 1), dim=-1)
        scale = log_scale.clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE).exp()
        return torch.cat((value * scale, offset), dim=-1)


def two_towers(
    hidden_features: int = 192,
    num_blocks: int = 2,
    dropout: float = 0.0,
    num_octaves: int = 9,
    embedding_net_theta: nn.Module | None = None,
    embedding_net_x: nn.Module | None = None,
) -> Callable[[Tensor, Tensor], RatioEstimator]:
    """Return a builder of a separable network: two towers of gated residual blocks.

    Args:
        hidden_features: Width of the towers, and features in the product of the two.
        num_blocks: Number of blocks in each tower.
        dropout: Share of inner features set to zero in training.
        num_octaves: Frequencies in which theta and x are encoded; see `Encode`.
        embedding_net_theta: Applied to scaled parameters `(N, D)` before the tower;
            must give `(N, F)`.
        embedding_net_x: Applied to scaled data `(N, *event_shape)` before the tower,
            such as a CNN for images; must give `(N, F)`. Without one, data are
            flattened and encoded.

    Returns:
        A callable `build(theta, x) -> RatioEstimator`, whose `net` is a
        `SeparableHead`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is not positive, `num_octaves` is negative, or `dropout`
            is no share below one.

    References:
        Radford et al. (2021), arXiv:2103.00020, for two towers and all pairs of a
        batch.

    Example:
        >>> estimator = two_towers(32)(torch.randn(64, 5), torch.randn(64, 8))
        >>> estimator(torch.zeros(3, 5), torch.zeros(3, 8)).shape
        torch.Size([3])
    """
    hidden_features = check_positive_int("hidden_features", hidden_features)
    num_blocks = check_positive_int("num_blocks", num_blocks)
    dropout = check_dropout(dropout)
    num_octaves = check_non_negative_int("num_octaves", num_octaves)
    check_embedding_nets(embedding_net_theta, embedding_net_x)

    @builds_network
    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        embed_theta = embed_encoded(theta, embedding_net_theta, num_octaves)
        embed_x = embed_encoded(x, embedding_net_x, num_octaves)
        for embed, batch in ((embed_theta, theta), (embed_x, x)):
            last = Magnify(hidden_features, hidden_features)
            width = count_features(embed, batch)
            embed.append(
                ResidualStack(width, hidden_features, num_blocks, dropout, last)
            )
        return RatioEstimator(
            net=SeparableHead(hidden_features),
            theta_shape=theta.shape[1:],
            x_shape=x.shape[1:],
            embedding_net_theta=embed_theta,
            embedding_net_x=embed_x,
        )

    return build
