"""Builders of ratio estimators: callables `build(theta, x) -> RatioEstimator`.

A builder sees a first batch of simulations, from which it takes shapes and scales. All
of them fit wherever sbi takes a classifier, `NRE_A`, `NRE_B` and `NRE_C` included.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

# The distance between these quantiles of a Gaussian is two standard deviations.
_QUANTILES = (0.1587, 0.8413)
# As many as `torch.quantile` took before torch 2.6.
_MAX_ENTRIES = 16_000_000
# Posteriors are narrower than priors: the network begins with that much more detail.
_INPUT_GAIN = 3.0


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


def mlp(
    hidden_features: Sequence[int] = (256, 256, 256),
    embedding_net_theta: nn.Module | None = None,
    embedding_net_x: nn.Module | None = None,
) -> Callable[[Tensor, Tensor], RatioEstimator]:
    """Return a builder of the paper's network: an MLP with SELU on (theta, x).

    With the defaults and SLCP this is 13 -> 256 -> 256 -> 256 -> 1.

    Args:
        hidden_features: Width of each hidden layer.
        embedding_net_theta: Applied to scaled parameters `(N, D)`; must give `(N, F)`.
        embedding_net_x: Applied to scaled data `(N, *event_shape)`; must give
            `(N, F)`. Without one, data are flattened.

    Returns:
        A callable `build(theta, x) -> RatioEstimator`.

    References:
        Hermans et al. (2020), arXiv:1903.04057, appendix; Klambauer et al. (2017),
        arXiv:1706.02515, for SELU.

    Example:
        >>> estimator = mlp()(torch.randn(64, 5), torch.randn(64, 8))
        >>> estimator(torch.zeros(3, 5), torch.zeros(3, 8)).shape
        torch.Size([3])
    """

    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        # Copied, so that two networks of one builder do not share their weights.
        net_theta = copy.deepcopy(embedding_net_theta) or nn.Flatten(start_dim=1)
        net_x = copy.deepcopy(embedding_net_x) or nn.Flatten(start_dim=1)
        embed_theta = nn.Sequential(Scale(theta), net_theta)
        embed_x = nn.Sequential(Scale(x), net_x)
        with torch.no_grad():
            width = embed_theta(theta[:2]).shape[1] + embed_x(x[:2]).shape[1]
        layers: list[nn.Module] = []
        gain = _INPUT_GAIN
        for hidden in hidden_features:
            layers += [_linear(width, hidden, gain), nn.SELU(inplace=True)]
            width, gain = hidden, 1.0
        return RatioEstimator(
            net=nn.Sequential(*layers, _linear(width, 1, gain)),
            theta_shape=theta.shape[1:],
            x_shape=x.shape[1:],
            embedding_net_theta=embed_theta,
            embedding_net_x=embed_x,
        )

    return build


def _linear(num_inputs: int, num_outputs: int, gain: float) -> nn.Linear:
    """A linear layer with the weights that SELU asks for, variance 1 / inputs."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.normal_(layer.weight, std=gain / num_inputs**0.5)
    nn.init.zeros_(layer.bias)
    return layer


def is_plain(estimator: RatioEstimator) -> bool:
    """Whether its logit is `net(cat(embedded theta, embedded x))` and nothing else.

    Then the two embeddings can be computed apart, each as often as it is needed.
    """
    return all(
        getattr(type(estimator), name, None) is getattr(RatioEstimator, name)
        for name in ("forward", "unnormalized_log_ratio", "combine_theta_and_x")
    )
