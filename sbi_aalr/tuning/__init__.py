"""Hyperparameters by gradient: differentiate held-out loss through a fitted model.

Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590. `hypergradient` is the method, a
pure function of two losses, for any torch module. `Search` steps hyperparameters by it
while the weights are fitted. What may be tuned is any torch module whose parameters
have a place in the training loss; those below are ready.
"""

from sbi_aalr.tuning.augmentation import Augmentation
from sbi_aalr.tuning.implicit import hypergradient, hypergradient_with_info
from sbi_aalr.tuning.info import Info
from sbi_aalr.tuning.noise import ColumnNoise, DropoutRates
from sbi_aalr.tuning.octaves import OctaveGains
from sbi_aalr.tuning.penalties import TermWeights, WeightPenalty
from sbi_aalr.tuning.ratio import RatioHyperparameters
from sbi_aalr.tuning.search import Search
from sbi_aalr.tuning.stepping import Step

__all__ = [
    "Augmentation",
    "ColumnNoise",
    "DropoutRates",
    "Info",
    "OctaveGains",
    "RatioHyperparameters",
    "Search",
    "Step",
    "TermWeights",
    "WeightPenalty",
    "hypergradient",
    "hypergradient_with_info",
]
