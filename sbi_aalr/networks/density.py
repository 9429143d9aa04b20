"""Ratio estimators that are conditional densities: q(theta|x) / p(theta), q(x|theta).

See `mixture.py` for why a density is a ratio estimator. A likelihood's log-ratio lacks
the offset log p(x), which no pair of theta can tell; `networks.stack` brings it in.
"""

from collections.abc import Callable

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from sbi_aalr.checks import check_positive_int
from sbi_aalr.networks.builder import builds_network, check_dropout
from sbi_aalr.networks.coordinates import (
    ThetaCoordinates,
    Whiten,
    XCoordinates,
    choose_logarithms,
)
from sbi_aalr.networks.encode import Encode
from sbi_aalr.networks.mixture import Components, MixtureHead, MixtureLayer
from sbi_aalr.networks.mlp import copy_net, count_features
from sbi_aalr.networks.regression import regress
from sbi_aalr.networks.residual import ResidualStack
from sbi_aalr.networks.scale import Scale, spans_decades
from sbi_aalr.networks.series import Series

# Scaled features beyond these count as these in the regression.
_CLIP = 8.0


class Condition(nn.Module):
    """Components of a mixture as a function of their condition.

    The means are a ridge regression in closed form, plus what the network finds.

    Args:
        condition: Rows of the condition, shape `(N, *event_shape)`.
        target: Coordinates of the target, shape `(N, D)`.
        whiten: Of the target, set to the residuals' units.
        num_components: Components, K.
        hidden_features: Width of the network; 0 for components that do not depend on
            the condition but for the regression.
        num_blocks: Blocks of the network.
        dropout: Share of inner features set to zero in training.
        embedding_net: Applied to the scaled condition, such as a CNN for images.
        fixed_correlations: Whether correlations do not depend on the condition; the
            network is a plain perceptron then.
        is_series: Whether the condition is a series, `(N, F)`, of which the network
            sees convolutions.
    """

    slope: Tensor
    intercept: Tensor

    def __init__(
        self,
        condition: Tensor,
        target: Tensor,
        whiten: Whiten,
        num_components: int,
        hidden_features: int,
        num_blocks: int,
        dropout: float,
        embedding_net: nn.Module | None = None,
        fixed_correlations: bool = False,
        is_series: bool = False,
    ) -> None:
        super().__init__()
        # A series has one kind of scale, or neighbours could not be compared.
        logarithmic = spans_decades(condition)
        if is_series:
            logarithmic = logarithmic.all().expand(logarithmic.shape)
        self.scale = Scale(condition, logarithmic)
        self.embedding_net = None
        self.encode: nn.Module
        features = self._find_features(self.scale(condition))
        if embedding_net is not None:
            self.embedding_net = copy_net(embedding_net, self.scale, condition)
            self.encode = nn.Identity()
            width = count_features(self.embedding_net, self.scale(condition[:2]))
            features = features[:, :0]
        elif is_series:
            self.encode = Series(self.scale, self.scale(condition))
            width = self.encode.num_features
        else:
            self.encode = Encode(features.shape[1], 0)
            width = 3 * features.shape[1]
        found = regress(features, target)
        whiten.matrix.copy_(found.whitening @ whiten.matrix)
        self.register_buffer("slope", found.slope @ found.whitening.T)
        self.register_buffer("intercept", found.whitening @ found.intercept)
        self.layer = MixtureLayer(
            max(1, hidden_features),
            target.shape[1],
            num_components,
            found.whitening.diagonal().log().sum(),
            fixed_correlations,
        )
        self.body: nn.Module | None = None
        if hidden_features:
            sizes = width, hidden_features, num_blocks, dropout
            if fixed_correlations:
                self.body = _build_perceptron(*sizes)
            else:
                self.body = ResidualStack(*sizes, nn.Identity())

    def forward(self, condition: Tensor) -> Tensor:
        """Map rows of the condition to packed components; see `mixture.pack`."""
        scaled = self.scale(condition)
        if self.embedding_net is None:
            regression = self._find_features(scaled) @ self.slope + self.intercept
            inputs = self.encode(scaled.flatten(1))
        else:
            regression = self.intercept.expand(len(condition), -1)
            inputs = self.embedding_net(scaled)
        if self.body is None:
            return self.layer(inputs.new_zeros(len(inputs), 1), regression)
        return self.layer(self.body(inputs).float(), regression)

    def _find_features(self, scaled: Tensor) -> Tensor:
        return scaled.flatten(1).clamp(-_CLIP, _CLIP)


def _build_perceptron(
    num_inputs: int, hidden_features: int, num_blocks: int, dropout: float
) -> nn.Sequential:
    """Plain layers, which over-fit few rows later than gated blocks do."""
    layers: list[nn.Module] = []
    for size in (num_inputs, *[hidden_features] * (num_blocks - 1)):
        layers += [nn.Linear(size, hidden_features), nn.SiLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def posterior_mixture(
    theta_transform: Transform,
    log_prior: Callable[[Tensor], Tensor],
    num_components: int = 8,
    hidden_features: int = 64,
    num_blocks: int = 2,
    dropout: float = 0.0,
    embedding_net_x: nn.Module | None = None,
    fixed_correlations: bool = False,
    is_series: bool = False,
) -> Callable[[Tensor, Tensor], RatioEstimator]:
    """Return a builder of log q(theta|x) - log p(theta), q a mixture of Gaussians.

    Args:
        theta_transform: From prior units to unconstrained space, where q lives.
        log_prior: Log-density of the prior, nats.
        num_components: Components of q.
        hidden_features: Width of the network that makes them of x.
        num_blocks: Blocks of that network.
        dropout: Share of inner features set to zero in training.
        embedding_net_x: Applied to scaled data; must give `(N, F)`.
        fixed_correlations: Whether correlations do not depend on x; the network is a
            plain perceptron then.
        is_series: Whether x is a series, `(N, F)`, of which the network sees
            convolutions.

    Returns:
        A callable `build(theta, x) -> RatioEstimator`.
    """
    num_components = check_positive_int("num_components", num_components)
    check_dropout(dropout)

    @builds_network
    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        coordinates = ThetaCoordinates(theta, theta_transform, log_prior)
        condition = Condition(
            x,
            coordinates(theta)[:, :-1],
            coordinates.whiten,
            num_components,
            hidden_features,
            num_blocks,
            dropout,
            embedding_net_x,
            bool(fixed_correlations),
            bool(is_series),
        )
        return RatioEstimator(
            MixtureHead(theta.shape[1], num_components, "posterior"),
            theta.shape[1:],
            x.shape[1:],
            coordinates,
            condition,
        )

    return build


def likelihood_mixture(
    num_components: int = 4,
    hidden_features: int = 64,
    num_blocks: int = 2,
    dropout: float = 0.0,
    is_exchangeable: bool = False,
    fixed_correlations: bool = False,
) -> Callable[[Tensor, Tensor], RatioEstimator]:
    """Return a builder of log q(x|theta), q a mixture of Gaussians on scaled data.

    Args:
        num_components: Components of q.
        hidden_features: Width of the network that makes them of theta.
        num_blocks: Blocks of that network.
        dropout: Share of inner features set to zero in training.
        is_exchangeable: Whether x, `(N, T, E)`, are T independent trials, which one
            density of a trial serves.
        fixed_correlations: Whether correlations do not depend on theta; the network is
            a plain perceptron then.

    Returns:
        A callable `build(theta, x) -> RatioEstimator`.
    """
    num_components = check_positive_int("num_components", num_components)
    check_dropout(dropout)

    @builds_network
    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        trials = x.shape[1] if is_exchangeable else 1
        every = theta.repeat_interleave(trials, dim=0)
        separate = x.flatten(0, 1) if is_exchangeable else x
        coordinates = XCoordinates(
            x, choose_logarithms(every, separate), bool(is_exchangeable)
        )
        target = coordinates.train()(x).reshape(len(every), -1)[:, :-1]
        condition = Condition(
            every,
            target,
            coordinates.whiten,
            num_components,
            hidden_features,
            num_blocks,
            dropout,
            fixed_correlations=bool(fixed_correlations),
        )
        return RatioEstimator(
            MixtureHead(target.shape[1], num_components, "likelihood", trials),
            theta.shape[1:],
            x.shape[1:],
            condition,
            coordinates,
        )

    return build


def draw_theta(
    estimator: RatioEstimator, x: Tensor, num_samples: int, generator: torch.Generator
) -> Tensor:
    """Draw from q(theta|x) of an estimator that `posterior_mixture` built.

    Args:
        estimator: The estimator.
        x: Data, shape `(B, *event_shape)`.
        num_samples: Draws for each x, S.
        generator: Source of randomness, on the device of the data.

    Returns:
        Parameters in prior units, shape `(S, B, D)`.
    """
    return draw_embedded(
        estimator, estimator.embedding_net_x(x), num_samples, generator
    )


def draw_embedded(
    estimator: RatioEstimator,
    embedded_x: Tensor,
    num_samples: int,
    generator: torch.Generator,
) -> Tensor:
    """The same for data that the estimator has embedded, shape `(B, F)`."""
    components = estimator.net.unpack(embedded_x)
    weights = component_weights(components)
    chosen = torch.multinomial(
        weights, num_samples, replacement=True, generator=generator
    )
    rows = torch.arange(len(weights), device=weights.device).unsqueeze(1)
    factor, middle = components.factor[rows, chosen], components.middle[rows, chosen]
    noise = torch.randn((*middle.shape, 1), device=middle.device, generator=generator)
    offset = torch.linalg.solve_triangular(factor, noise, upper=False)
    inner = middle + offset.squeeze(-1)
    return estimator.embedding_net_theta.invert(inner.transpose(0, 1))


def component_weights(components: Components) -> Tensor:
    """Weights of the components, shape `(N, K)`, which sum to one."""
    log_scale = components.scale.log().sum(dim=-1)
    return (components.height - log_scale).softmax(dim=1)
