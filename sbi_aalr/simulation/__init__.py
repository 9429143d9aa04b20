"""From any simulator that sbi accepts to batches of simulations, and to stores."""

from sbi_aalr.simulation.failing import Account
from sbi_aalr.simulation.fill import fill_store
from sbi_aalr.simulation.store import SimulationStore
from sbi_aalr.simulation.store_marks import Failures

__all__ = ["Account", "Failures", "SimulationStore", "fill_store"]
