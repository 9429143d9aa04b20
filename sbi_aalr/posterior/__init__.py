"""`MHPosterior`, the posterior: what sbi asks for, and its last run."""

from sbi_aalr.posterior.mh_posterior import MHPosterior
from sbi_aalr.posterior.parameters import MHPosteriorParameters

__all__ = ["MHPosterior", "MHPosteriorParameters"]
