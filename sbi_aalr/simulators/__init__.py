"""Benchmark simulators, one a file, with exact answers where they exist.

A new one is a class in a file here, a line below, and one in `docs/reference.md`; for
the comparison, a name in `comparison/tasks.py` too.
"""

from sbi_aalr.simulators.gaussian_linear import GaussianLinear
from sbi_aalr.simulators.lotka_volterra import LotkaVolterra
from sbi_aalr.simulators.mg1 import MG1
from sbi_aalr.simulators.slcp import SLCP
from sbi_aalr.simulators.slcp_distractors import SLCPDistractors
from sbi_aalr.simulators.two_moons import TwoMoons

__all__ = [
    "MG1",
    "SLCP",
    "GaussianLinear",
    "LotkaVolterra",
    "SLCPDistractors",
    "TwoMoons",
]
