"""Likelihood-free MCMC with amortized approximate ratio estimators, for sbi.

Hermans, Begy & Louppe (2020), arXiv:1903.04057. The names below are imported on first
use, so that `import sbi_aalr` itself stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sbi_aalr._version import __version__

if TYPE_CHECKING:
    from sbi_aalr.errors import ConvergenceWarning
    from sbi_aalr.posterior.mh_posterior import MHPosterior
    from sbi_aalr.sampling.parameters import MHPosteriorParameters
    from sbi_aalr.trainer.aalr import AALR

__all__ = [
    "AALR",
    "ConvergenceWarning",
    "MHPosterior",
    "MHPosteriorParameters",
    "__version__",
]

_HOMES = {
    "AALR": "sbi_aalr.trainer",
    "ConvergenceWarning": "sbi_aalr.errors",
    "MHPosterior": "sbi_aalr.posterior",
    "MHPosteriorParameters": "sbi_aalr.posterior",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
