"""Benchmark simulators, one a file, with exact answers where they exist."""

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
