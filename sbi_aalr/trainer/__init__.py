"""`AALR`, the trainer: what sbi asks for, and three ways to fit."""

from sbi_aalr.trainer.aalr import AALR

__all__ = ["AALR"]
