"""Hyperparameters by gradient: differentiate held-out loss through a fitted model.

Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590. `hypergradient` is the method, a
pure function of two losses, for any torch module.
"""

from sbi_aalr.tuning.implicit import Info, hypergradient, hypergradient_with_info

__all__ = ["Info", "hypergradient", "hypergradient_with_info"]
