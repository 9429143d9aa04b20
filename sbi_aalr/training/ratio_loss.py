"""The loss of a batch: which pairs a network is shown, and what is asked of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.checks import (
    check_field,
    check_non_negative_float,
    check_positive_int,
)
from sbi_aalr.networks.digits import round_for
from sbi_aalr.networks.pairs import is_separable, take_apart
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training import losses


class Term(NamedTuple):
    """A term of the loss, in both its forms.

    Attributes:
        of_contrasts: Logits of joint pairs `(N,)` and of contrasts `(N, K)` -> losses.
        of_all_pairs: Logits of all pairs of a batch `(N, N)` -> losses.
    """

    of_contrasts: Callable[[Tensor, Tensor], Tensor]
    of_all_pairs: Callable[[Tensor], Tensor]


# A new term is its two forms in `losses`, a line here, and a field of `RatioLoss` of
# the same name for its weight.
TERMS = {
    "cross_entropy": Term(losses.binary_cross_entropy, losses.all_pairs_cross_entropy),
    "info_nce": Term(losses.info_nce, losses.all_pairs_info_nce),
    "balance": Term(losses.imbalance, losses.all_pairs_imbalance),
}


@dataclass(frozen=True)
class RatioLoss:
    """What a ratio estimator is trained on.

    Args:
        num_contrasts: Contrasting theta' of each x. None means every other theta of the
            batch, which needs a separable network such as `two_towers`; 1 is
            Algorithm 1 as published.
        cross_entropy: Weight of the binary cross-entropy.
        info_nce: Weight of the InfoNCE term; see `losses.info_nce`.
        balance: Weight of the balancing term; 100 gives conservative posteriors. See
            `losses.imbalance`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is negative, or nothing is left to train on.

    Example:
        >>> from sbi_aalr import AALR
        >>> from sbi_aalr.simulators import SLCP
        >>> algorithm_1 = RatioLoss(num_contrasts=1, info_nce=0.0)
        >>> trainer = AALR(SLCP().prior, "selu_mlp", loss=algorithm_1)
    """

    num_contrasts: int | None = None
    cross_entropy: float = 1.0
    info_nce: float = 1.0
    balance: float = 0.0

    def __post_init__(self) -> None:
        if self.num_contrasts is not None:
            check_field(self, "num_contrasts", check_positive_int)
        for name in TERMS:
            check_field(self, name, check_non_negative_float)
        if self.cross_entropy == self.info_nce == 0:
            raise ValueError(
                "`cross_entropy` and `info_nce` must not both be 0: nothing would be "
                "learnt."
            )

    def of_batch(self, estimator: RatioEstimator, batch: Batch) -> Tensor:
        """Loss of each simulation of a batch.

        Args:
            estimator: The ratio estimator.
            batch: Simulations. Contrasts are its `theta_prime`; without them, and for
                all pairs, other rows' theta serve.

        Returns:
            Losses, shape `(N,)`, nats.

        Raises:
            ValueError: If there are too few rows to take the contrasts from, or all
                pairs are asked of a network that is not separable.
        """
        theta, theta_prime, x = batch
        x = round_for(estimator, x)
        weights = {name: getattr(self, name) for name in TERMS}
        used = [(TERMS[name], weight) for name, weight in weights.items() if weight]
        total = torch.zeros((), device=x.device)
        if self.num_contrasts is None:
            _check_rows(len(theta), 2)
            log_ratio = compute_all_pairs(estimator, theta, x)
            for term, weight in used:
                total = total + weight * term.of_all_pairs(log_ratio)
            return total
        logits = self._compute_contrasts(estimator, theta, x, theta_prime)
        for term, weight in used:
            total = total + weight * term.of_contrasts(*logits)
        return total

    def _compute_contrasts(
        self,
        estimator: RatioEstimator,
        theta: Tensor,
        x: Tensor,
        theta_prime: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the joint pairs `(N,)` and of K contrasts of each x `(N, K)`.

        Contrasts are shifted copies of the batch. A shift by one or more never meets a
        row's own theta; rows of theta' may stay where they are.
        """
        rows, count = len(theta), self.num_contrasts or 1
        _check_rows(rows, count if theta_prime is not None else count + 1)
        if theta_prime is None:
            shifts = (torch.randperm(rows - 1)[:count] + 1).tolist()
        else:
            shifts = list(range(count))
        parts = take_apart(estimator)
        embedded = contrasts = parts.embed_theta(theta)
        if theta_prime is not None:
            contrasts = parts.embed_theta(theta_prime)
        embedded_x = parts.embed_x(x)
        tiled_x = embedded_x.repeat(count + 1, *[1] * (embedded_x.ndim - 1))
        stacked = torch.cat((embedded, *(contrasts.roll(s, 0) for s in shifts)))
        logits = parts.combine(stacked, tiled_x)
        joint, *marginal = logits.float().reshape(count + 1, rows)
        return joint, torch.stack(marginal, dim=1)


def _check_rows(rows: int, least_rows: int) -> None:
    """Raise if a batch has too few rows to take the contrasts of each from."""
    if rows < least_rows:
        raise ValueError(
            f"A batch must have at least {least_rows} rows, got {rows}: contrasts of "
            "each row are taken from its batch. Lower `num_contrasts` of the loss, or "
            "set `drop_last` in `dataloader_kwargs` where those are given."
        )


def compute_all_pairs(estimator: RatioEstimator, theta: Tensor, x: Tensor) -> Tensor:
    """Logits of every theta with every x.

    Args:
        estimator: A separable ratio estimator.
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(M, *event_shape)`.

    Returns:
        Logits, shape `(N, M)`, nats.

    Raises:
        ValueError: If the estimator is not separable.
    """
    parts = take_apart(estimator)
    if parts.combine_all is None:
        raise ValueError(
            "`num_contrasts` must be given for a network that is not separable. Pass "
            "`loss=RatioLoss(num_contrasts=1)`, or train `two_towers`."
        )
    # In training embeddings may be bfloat16, which is too coarse for their product.
    embedded_theta, embedded_x = parts.embed_theta(theta), parts.embed_x(x)
    return parts.combine_all(embedded_theta.float(), embedded_x.float())


def choose_loss(estimator: RatioEstimator) -> RatioLoss:
    """All pairs and InfoNCE for a separable network, else Algorithm 1 as published."""
    if is_separable(estimator):
        return RatioLoss()
    return RatioLoss(num_contrasts=1, info_nce=0.0)
