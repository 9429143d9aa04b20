"""The engine that fits a ratio estimator; it knows nothing of sbi's trainers.

`loop.fit` minimises a `RatioLoss` over passes of batches, by a recipe. A new term of
the loss is two functions in `losses`, a line in `ratio_loss.TERMS` and a field of
`RatioLoss` of the same name for its weight, 0 by default. A new source of batches is an
iterable as in `passes`.
"""

from sbi_aalr.training.ratio_loss import RatioLoss

__all__ = ["RatioLoss"]
