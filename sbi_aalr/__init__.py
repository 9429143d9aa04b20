"""Likelihood-free MCMC with amortized approximate ratio estimators, for sbi.

Hermans, Begy & Louppe (2020), arXiv:1903.04057. The names below are imported on first
use, so that `import sbi_aalr` itself stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sbi_aalr._version import __version__

if TYPE_CHECKING:
    from sbi_aalr.errors import ConvergenceWarning
    from sbi_aalr.networks import average_log_ratios
    from sbi_aalr.posterior import MHPosterior, MHPosteriorParameters
    from sbi_aalr.sampling import Normaliser, TruncatedPrior
    from sbi_aalr.trainer import AALR
    from sbi_aalr.training import RatioLoss

__all__ = [
    "AALR",
    "ConvergenceWarning",
    "MHPosterior",
    "MHPosteriorParameters",
    "Normaliser",
    "RatioLoss",
    "TruncatedPrior",
    "__version__",
    "average_log_ratios",
]

_HOMES = {
    "AALR": "sbi_aalr.trainer",
    "ConvergenceWarning": "sbi_aalr.errors",
    "MHPosterior": "sbi_aalr.posterior",
    "MHPosteriorParameters": "sbi_aalr.posterior",
    "Normaliser": "sbi_aalr.sampling",
    "RatioLoss": "sbi_aalr.training",
    "TruncatedPrior": "sbi_aalr.sampling",
    "average_log_ratios": "sbi_aalr.networks",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
