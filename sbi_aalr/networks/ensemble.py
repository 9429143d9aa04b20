"""Ensembles: one ratio estimator that is the mean of several.

The mean of log-ratios is more accurate than its members are on average, because the
cross-entropy is convex in the logit. For a mixture of the members' posteriors instead,
give their posteriors to sbi's `EnsemblePosterior`.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.checks import check_type
from sbi_aalr.networks.mlp import count_features
from sbi_aalr.networks.pairs import is_plain, is_separable, match


class Together(nn.ModuleList):
    """Embedding nets side by side."""

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows to the features of all nets, one after the other."""
        return torch.cat([net(rows) for net in self], dim=-1)


class _MeanHead(nn.Module):
    """Mean of the members' logits, each of its own part of the embeddings."""

    def __init__(
        self, heads: Sequence[nn.Module], sizes: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self._sizes: list[list[int]] = [
            list(column) for column in zip(*sizes, strict=True)
        ]

    def forward(self, embedded: Tensor) -> Tensor:
        width, rows = sum(self._sizes[0]), embedded.flatten(0, -2)
        mean = self._average(match, rows[:, :width], rows[:, width:])
        return mean.reshape(*embedded.shape[:-1], 1)

    def _average(
        self, evaluate: Callable[..., Tensor], theta: Tensor, x: Tensor
    ) -> Tensor:
        """Mean over the heads of what each makes of its own part of theta and x."""
        theta_sizes, x_sizes = self._sizes
        parts = zip(
            self.heads,
            theta.split(theta_sizes, dim=-1),
            x.split(x_sizes, dim=-1),
            strict=True,
        )
        return torch.stack([evaluate(*part) for part in parts]).mean(dim=0)


class _MeanSeparableHead(_MeanHead):
    """The same, where each member is separable: then so is the ensemble."""

    def all_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Logits of every pair, shape `(N, M)`, nats; see `SeparableHead`."""
        return self._average(
            lambda head, *pair: head.all_pairs(*pair), embedded_theta, embedded_x
        )


def average_log_ratios(estimators: Sequence[RatioEstimator]) -> RatioEstimator:
    """Make one estimator whose log-ratio is the mean of the members' log-ratios.

    Args:
        estimators: Fitted ratio estimators of the same theta and x. They are shared
            with the ensemble, not copied.

    Returns:
        A ratio estimator, separable if all members are. It samples, saves and loads
        like any other.

    Raises:
        TypeError: If a member is no plain `RatioEstimator`.
        ValueError: If there is none, or their shapes differ.

    References:
        Lakshminarayanan et al. (2017), arXiv:1612.01474; Hermans et al. (2022),
        arXiv:2110.06581, for ensembles in simulation-based inference.

    Example:
        >>> from sbi_aalr.networks import two_towers
        >>> theta, x = torch.randn(64, 2), torch.randn(64, 3)
        >>> members = [two_towers(16)(theta, x) for _ in range(2)]
        >>> ensemble = average_log_ratios(members)
        >>> mean = (members[0](theta, x) + members[1](theta, x)) / 2
        >>> torch.allclose(ensemble(theta, x), mean, atol=1e-5)
        True
    """
    kinds = "a list of RatioEstimators"
    members = list(check_type("estimators", estimators, Iterable, kinds))
    if not members:
        raise ValueError("`estimators` must hold at least one, got none.")
    for member in members:
        if not isinstance(member, RatioEstimator) or not is_plain(member):
            raise TypeError(
                "`estimators` must be RatioEstimators without a forward of their own, "
                f"got {type(member).__name__}."
            )
    shapes = {(member.theta_shape, member.x_shape) for member in members}
    if len(shapes) > 1:
        raise ValueError(
            f"`estimators` must take the same theta and x, got shapes {shapes}."
        )
    theta_shape, x_shape = shapes.pop()
    head_class = _MeanSeparableHead if all(map(is_separable, members)) else _MeanHead
    ensemble = RatioEstimator(
        net=head_class(
            [member.net for member in members],
            [measure_sizes(member) for member in members],
        ),
        theta_shape=theta_shape,
        x_shape=x_shape,
        embedding_net_theta=Together([m.embedding_net_theta for m in members]),
        embedding_net_x=Together([m.embedding_net_x for m in members]),
    )
    # A tuple, which torch does not take for a part of the network.
    ensemble.members = tuple(members)
    return ensemble.eval()


def measure_sizes(estimator: RatioEstimator) -> tuple[int, int]:
    """Features of the two embeddings."""
    device = next(estimator.parameters()).device
    was_training = estimator.training
    estimator.eval()
    sizes = (
        count_features(
            estimator.embedding_net_theta,
            torch.zeros(2, *estimator.theta_shape, device=device),
        ),
        count_features(
            estimator.embedding_net_x,
            torch.zeros(2, *estimator.x_shape, device=device),
        ),
    )
    estimator.train(was_training)
    return sizes
