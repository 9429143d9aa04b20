"""The engine that fits a ratio estimator; it knows nothing of sbi's trainers."""

from sbi_aalr.training import losses
from sbi_aalr.training.ratio_loss import RatioLoss

__all__ = ["RatioLoss", "losses"]
