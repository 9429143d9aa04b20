"""Benchmark simulators, one a file, with exact answers where they exist.

A new one is a class in a file here, a line below, and one in `docs/reference.md`; for
the comparison, a name in `comparison/tasks.py` too.
"""

from sbi_aalr.simulators.bernoulli_glm import BernoulliGLM
from sbi_aalr.simulators.bernoulli_glm_raw import BernoulliGLMRaw
from sbi_aalr.simulators.gaussian_linear import GaussianLinear
from sbi_aalr.simulators.gaussian_linear_uniform import GaussianLinearUniform
from sbi_aalr.simulators.gaussian_mixture import GaussianMixture
from sbi_aalr.simulators.lotka_volterra import LotkaVolterra
from sbi_aalr.simulators.lotka_volterra_ode import LotkaVolterraODE
from sbi_aalr.simulators.mg1 import MG1
from sbi_aalr.simulators.sir import SIR
from sbi_aalr.simulators.slcp import SLCP
from sbi_aalr.simulators.slcp_distractors import SLCPDistractors
from sbi_aalr.simulators.two_moons import TwoMoons

__all__ = [
    "MG1",
    "SIR",
    "SLCP",
    "BernoulliGLM",
    "BernoulliGLMRaw",
    "GaussianLinear",
    "GaussianLinearUniform",
    "GaussianMixture",
    "LotkaVolterra",
    "LotkaVolterraODE",
    "SLCPDistractors",
    "TwoMoons",
]
