"""Maximum likelihood: the loss of a ratio estimator that is a normalised density."""

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.simulation.batches import Batch


class DensityLoss:
    """Negative log-ratio of the joint pairs, for densities only.

    It differs from the negative log-density by a function of one side, which no weight
    changes. A ratio that is not normalised would grow without bound.
    """

    def of_batch(self, estimator: RatioEstimator, batch: Batch) -> Tensor:
        """Loss of each simulation of a batch, shape `(N,)`, nats."""
        return -estimator(batch.theta, batch.x)
