"""Builders of ratio estimators: callables `build(theta, x) -> RatioEstimator`.

A builder sees a first batch of simulations, from which it takes shapes and scales. All
of them fit wherever sbi takes a classifier, `NRE_A`, `NRE_B` and `NRE_C` included.
`average_log_ratios` makes one estimator of several that are fitted.
"""

from sbi_aalr.networks.density import likelihood_mixture, posterior_mixture
from sbi_aalr.networks.encode import Encode
from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.networks.mlp import mlp
from sbi_aalr.networks.pairs import is_plain, is_separable
from sbi_aalr.networks.residual import GatedBlock, residual_mlp
from sbi_aalr.networks.scale import Scale
from sbi_aalr.networks.stack import Stack
from sbi_aalr.networks.towers import SeparableHead, two_towers

__all__ = [
    "Encode",
    "GatedBlock",
    "Scale",
    "SeparableHead",
    "Stack",
    "average_log_ratios",
    "is_plain",
    "is_separable",
    "likelihood_mixture",
    "mlp",
    "posterior_mixture",
    "residual_mlp",
    "two_towers",
]
