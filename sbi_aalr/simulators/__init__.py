"""Benchmark simulators, one a file, with exact answers where they exist."""

from sbi_aalr.simulators.slcp import SLCP

__all__ = ["SLCP"]
