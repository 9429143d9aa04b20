r"""Stacks: one ratio estimator that is a weighted sum of several log-ratios.

    log r(x|theta) = sum_k w_k log r_k(x|theta) + f(theta, x) + c(x).

Members of different structure err in different places, and a sum of log-ratios is again
one. Where they are all too simple, f mends them; see `correction`. Where the weights do
not belong to normalised members, c(x) brings the whole back to a mean of one over the
prior. The stack keeps a density q(theta|x) beside it, which proposes parameters for
whatever is to be done with the ratio.

References:
    Wolpert (1992), Neural Networks 5(2); Breiman (1996), Machine Learning 24, for
    non-negative weights; Genest & Zidek (1986), Statistical Science 1(1), for pooling
    logarithms of densities.
"""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.networks.correction import Correction, CorrectionInput
from sbi_aalr.networks.encode import Encode
from sbi_aalr.networks.ensemble import Together, measure_sizes
from sbi_aalr.networks.mixture import MixtureHead
from sbi_aalr.networks.mlp import count_features
from sbi_aalr.networks.pairs import match
from sbi_aalr.networks.residual import ResidualStack
from sbi_aalr.networks.scale import Scale

_OFFSET_FEATURES = 64
_OFFSET_BLOCKS = 2
# Scaled data beyond this count as this.
_FAR = 20.0
# Pairs to correct at once, where nothing is learned.
_BLOCK_PAIRS = 2**16


class Offset(nn.Module):
    """The offset c(x): a quadratic in closed form, and a small network upon it.

    Both are zero at first. Where data lie far out, the quadratic is what is left.

    Args:
        x: Data to take the scales from, shape `(N, *event_shape)`.
        embedding_net: Fitted net of scaled data, whose features it sees; not trained.
    """

    slope: Tensor
    intercept: Tensor

    def __init__(self, x: Tensor, embedding_net: nn.Module | None = None) -> None:
        super().__init__()
        self.scale = Scale(x)
        self.embed: nn.Module = nn.Sequential(
            nn.Flatten(), Encode(x[0].numel(), num_octaves=0)
        )
        self.register_buffer("slope", torch.zeros(2 * x[0].numel(), 1))
        self.register_buffer("intercept", torch.zeros(1))
        if embedding_net is not None:
            self.embed = copy.deepcopy(embedding_net).requires_grad_(False)
        self.last = nn.Linear(_OFFSET_FEATURES, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        width = count_features(self.embed, self.scale(x[:2]))
        self.body = ResidualStack(
            width, _OFFSET_FEATURES, _OFFSET_BLOCKS, 0.0, nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Offsets of data `(N, *event_shape)` -> `(N, 1)`, nats."""
        smooth = self.find_features(x) @ self.slope + self.intercept
        return smooth + self.last(self.body(self.embed(self.scale(x))).float())

    def find_features(self, x: Tensor) -> Tensor:
        """What the quadratic is made of, shape `(N, 2 E)`."""
        scaled = self.scale(x).flatten(1).clamp(-_FAR, _FAR)
        return torch.cat((scaled, scaled.square()), dim=1)


class Mended(NamedTuple):
    """A correction with its two first layers.

    Attributes:
        theta: The layer of theta.
        x: The layer of x.
        head: What comes behind.
    """

    theta: CorrectionInput
    x: CorrectionInput
    head: Correction


class StackHead(nn.Module):
    """Weighted sum of the members' logits, each of its own part of the embeddings.

    The embeddings end with what the correction sees, and that of x with the offset.

    Args:
        heads: The members' heads.
        sizes: Features of the two embeddings of each.
        weights: Weights of the members, shape `(K,)`.
        correction: What mends the sum, or None.
    """

    weights: Tensor

    def __init__(
        self,
        heads: Sequence[nn.Module],
        sizes: Sequence[tuple[int, int]],
        weights: Tensor,
        correction: Correction | None = None,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.correction = correction
        self.register_buffer("weights", weights.float())
        theta_sizes, x_sizes = zip(*sizes, strict=True)
        extra = [] if correction is None else [correction.num_inputs]
        self._theta_sizes = [*theta_sizes, *extra]
        self._x_sizes = [*x_sizes, *extra, 1]

    def forward(self, embedded: Tensor) -> Tensor:
        """Log-ratios of pairs, `cat(embedded theta, embedded x)` -> `(N, 1)`, nats."""
        rows = embedded.flatten(0, -2)
        width = sum(self._theta_sizes)
        total = self.row_pairs(rows[:, :width], rows[:, width:])
        return total.reshape(*embedded.shape[:-1], 1)

    def row_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Log-ratios row by row, `(N, ...)` twice -> `(N,)`, nats."""
        theta = embedded_theta.split(self._theta_sizes, dim=1)
        x = embedded_x.split(self._x_sizes, dim=1)
        total = x[-1].squeeze(1) + self._add(match, theta, x)
        if self.correction is not None:
            total = total + self._correct(theta, x).squeeze(1)
        return total

    def all_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Log-ratios of every pair, `(N, ...)` and `(M, ...)` -> `(N, M)`, nats."""
        theta = embedded_theta.split(self._theta_sizes, dim=1)
        x = embedded_x.split(self._x_sizes, dim=1)
        total = x[-1].T + self._add(lambda head, *pair: head.all_pairs(*pair), theta, x)
        if self.correction is None:
            return total
        rows = max(1, _BLOCK_PAIRS // max(1, len(embedded_x)))
        parts = [
            self._correct_all(part.split(self._theta_sizes, dim=1), x)
            for part in embedded_theta.split(rows)
        ]
        return total + torch.cat(parts)

    def _add(
        self,
        evaluate: Callable[..., Tensor],
        theta: Sequence[Tensor],
        x: Sequence[Tensor],
    ) -> Tensor:
        # The embeddings may hold more than the members' parts.
        parts = zip(self.weights.unbind(), self.heads, theta, x, strict=False)
        terms = [weight * evaluate(head, *pair) for weight, head, *pair in parts]
        return torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0]

    def _correct(self, theta: Sequence[Tensor], x: Sequence[Tensor]) -> Tensor:
        correction = self.correction
        if correction is None:
            return torch.zeros((), device=theta[0].device)
        residuals = [
            head.residuals(*pair)
            for head, *pair in zip(self.heads, theta, x, strict=False)
            if isinstance(head, MixtureHead)
        ]
        return correction(theta[-1], x[-2], residuals)

    def _correct_all(self, theta: Sequence[Tensor], x: Sequence[Tensor]) -> Tensor:
        rows, columns = len(theta[0]), len(x[0])
        tiled_theta = [part.repeat_interleave(columns, dim=0) for part in theta]
        tiled_x = [part.repeat(rows, 1) for part in x]
        return self._correct(tiled_theta, tiled_x).view(rows, columns)


class Stack(RatioEstimator):
    """A weighted sum of separable ratio estimators, with a proposal beside it.

    Args:
        members: Fitted estimators of the same theta and x. They are shared with the
            stack, not copied.
        weights: Non-negative, shape `(K,)`. Members of weight zero are left out.
        offset: The offset c(x); None for none.
        proposal: One of the members, q(theta|x) / p(theta) of `posterior_mixture`; None
            for no proposal.
        mended: The correction f; None for none.
    """

    def __init__(
        self,
        members: Sequence[RatioEstimator],
        weights: Tensor,
        offset: Offset | None = None,
        proposal: RatioEstimator | None = None,
        mended: Mended | None = None,
    ) -> None:
        chosen = [
            (member, weight)
            for member, weight in zip(members, weights.tolist(), strict=True)
            if weight > 0
        ]
        used = [member for member, _ in chosen]
        theta_nets = [member.embedding_net_theta for member in used]
        x_nets = [member.embedding_net_x for member in used]
        if mended is not None:
            theta_nets, x_nets = [*theta_nets, mended.theta], [*x_nets, mended.x]
        super().__init__(
            net=StackHead(
                [member.net for member in used],
                [measure_sizes(member) for member in used],
                torch.tensor([weight for _, weight in chosen]),
                mended and mended.head,
            ),
            theta_shape=used[0].theta_shape,
            x_shape=used[0].x_shape,
            embedding_net_theta=Together(theta_nets),
            embedding_net_x=Together([*x_nets, offset or NoOffset()]),
        )
        # A tuple, which torch does not take for parts of the network.
        self.stacked = tuple(used)
        self.has_offset, self.has_correction = offset is not None, mended is not None
        self._proposal = (proposal,)
        if proposal is not None and not any(proposal is member for member in used):
            self.unused = proposal
        self.eval()

    @property
    def proposal(self) -> RatioEstimator | None:
        """The density q(theta|x) / p(theta) that proposes, or None."""
        return self._proposal[0]


class NoOffset(nn.Module):
    """An offset of zero, whatever the data."""

    sees_data = False

    def forward(self, x: Tensor) -> Tensor:
        """Zeros, shape `(N, 1)`."""
        return x.new_zeros((len(x), 1), dtype=torch.float32)
