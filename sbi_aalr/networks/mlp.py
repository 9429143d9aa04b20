"""The paper's network: an MLP on parameters and data together."""

import contextlib
import copy
from collections.abc import Callable, Sequence

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.checks import check_positive_int
from sbi_aalr.networks.builder import builds_network, check_embedding_nets
from sbi_aalr.networks.scale import Scale
from sbi_aalr.networks.selu import SELU

# Posteriors are narrower than priors: the network begins with that much more detail.
_INPUT_GAIN = 3.0
# Rows that an embedding net is tried with, and numbers of large ones.
_PROBED, _PROBED_ENTRIES = 64, 2**20
# By which features of a row may differ between calls, as a share of the largest.
_ROUNDING = 1e-3


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

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width is not positive.

    References:
        Hermans et al. (2020), arXiv:1903.04057, appendix; Klambauer et al. (2017),
        arXiv:1706.02515, for SELU.

    Example:
        >>> estimator = mlp()(torch.randn(64, 5), torch.randn(64, 8))
        >>> estimator(torch.zeros(3, 5), torch.zeros(3, 8)).shape
        torch.Size([3])
    """
    if isinstance(hidden_features, str) or not isinstance(hidden_features, Sequence):
        raise TypeError(
            "`hidden_features` must be a sequence of positive ints, got "
            f"{hidden_features!r} of type {type(hidden_features).__name__}."
        )
    widths = [check_positive_int("hidden_features", size) for size in hidden_features]
    check_embedding_nets(embedding_net_theta, embedding_net_x)

    @builds_network
    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        embed_theta = embed_scaled(theta, embedding_net_theta)
        embed_x = embed_scaled(x, embedding_net_x)
        width = count_features(embed_theta, theta) + count_features(embed_x, x)
        layers: list[nn.Module] = []
        gain = _INPUT_GAIN
        for hidden in widths:
            layers += [_linear(width, hidden, gain), SELU()]
            width, gain = hidden, 1.0
        return RatioEstimator(
            net=nn.Sequential(*layers, _linear(width, 1, gain)),
            theta_shape=theta.shape[1:],
            x_shape=x.shape[1:],
            embedding_net_theta=embed_theta,
            embedding_net_x=embed_x,
        )

    return build


def embed_scaled(batch: Tensor, embedding_net: nn.Module | None) -> nn.Sequential:
    """Scaling by the batch, then the embedding net, or data made flat.

    The net is copied, so that two networks of one builder do not share its weights.
    """
    net: nn.Module = nn.Flatten(start_dim=1)
    scale = Scale(batch)
    if embedding_net is not None:
        net = copy_net(embedding_net, scale, batch)
    return nn.Sequential(scale, net)


def copy_net(embedding_net: nn.Module, scale: Scale, batch: Tensor) -> nn.Module:
    """A copy of an embedding net, once it has been tried with some scaled rows.

    Raises:
        TypeError: As `_check_features` does.
        ValueError: As `_check_features` does.
    """
    net = copy.deepcopy(embedding_net).float()
    few = max(2, _PROBED_ENTRIES // max(1, batch[0].numel()))
    _check_features(net, scale(batch[: min(_PROBED, few)]))
    return net


def _check_features(embedding_net: nn.Module, scaled: Tensor) -> None:
    """Raise if an embedding net cannot be relied on for some scaled rows.

    Raises:
        TypeError: If it gives no tensor.
        ValueError: If it gives NaN or infinity, or other features to a row that stands
            alone. What it cannot take at all is left to `count_features`.
    """
    was_training = embedding_net.training
    # Nothing is drawn, and nothing learned of these rows.
    embedding_net.eval()
    features = alone = torch.zeros(1, 1)
    with contextlib.suppress(RuntimeError), torch.no_grad():
        features = _embed(embedding_net, scaled).reshape(len(scaled), -1)
        alone = _embed(embedding_net, scaled[:1]).reshape(1, -1)
    embedding_net.train(was_training)
    bad = ~torch.isfinite(features).all(dim=1)
    if bad.any():
        raise ValueError(
            "An embedding net must give finite numbers, but gave NaN or infinity for "
            f"{int(bad.sum())} of {len(bad)} rows. It is given scaled data, here from "
            f"{float(scaled.amin()):.2g} to {float(scaled.amax()):.2g}, not the data "
            "themselves: take roots and logarithms of positive data in the simulator."
        )
    # Written so that NaN fails.
    if not (alone - features[:1]).abs().amax() <= _ROUNDING * features.abs().amax():
        raise ValueError(
            "An embedding net must give a row the same features every time, whatever "
            "rows are beside it, but the first row gets others alone. Leave out "
            "statistics over rows, and noise that does not stop with `eval()`."
        )


def count_features(embedding_net: nn.Module, batch: Tensor) -> int:
    """How many features an embedding net gives.

    Raises:
        TypeError: If it gives no tensor.
        ValueError: If it cannot take such data, or does not give rows of features,
            `(N, F)`.
    """
    try:
        with torch.no_grad():
            features = _embed(embedding_net, batch[:2])
    except RuntimeError as error:
        raise ValueError(
            "An embedding net must take rows of shape "
            f"{tuple(batch.shape[1:])}, but of two of them torch says: {error}. Give "
            "`embedding_net_x` layers of that size; torch.nn.Unflatten(1, (1, -1)) "
            "gives rows of numbers a channel."
        ) from error
    if features.ndim != 2 or len(features) != len(batch[:2]):
        raise ValueError(
            "An embedding net must give one row of features for each row, (N, F), got "
            f"shape {tuple(features.shape)} for {len(batch[:2])} rows. End it with "
            "torch.nn.Flatten()."
        )
    return features.shape[1]


def _embed(embedding_net: nn.Module, rows: Tensor) -> Tensor:
    features = embedding_net(rows)
    if isinstance(features, Tensor):
        return features
    raise TypeError(
        "An embedding net must give a tensor, (N, F), got "
        f"{type(features).__name__}. A recurrent net gives its states besides: put it "
        "into a module that returns the last of its outputs alone."
    )


def _linear(num_inputs: int, num_outputs: int, gain: float) -> nn.Linear:
    """A linear layer with the weights that SELU asks for, variance 1 / inputs."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.normal_(layer.weight, std=gain / num_inputs**0.5)
    nn.init.zeros_(layer.bias)
    return layer
