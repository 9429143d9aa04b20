"""The engine that draws from a log-posterior; it knows nothing of sbi's posteriors.

A `Target` and observations go in, a finished `Run` comes out.
"""

from sbi_aalr.sampling.normaliser import Normaliser
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import CallableTarget, RatioTarget, Target
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.sampling.validity import Validity, ValidPrior

__all__ = [
    "CallableTarget",
    "Normaliser",
    "RatioTarget",
    "Run",
    "Settings",
    "Target",
    "TruncatedPrior",
    "ValidPrior",
    "Validity",
]
