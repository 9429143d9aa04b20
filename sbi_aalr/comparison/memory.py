"""The most memory that this process holds."""

import math
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Begin anew to record the most memory that this process holds, on Linux."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        # Elsewhere the record is that of the process's whole life.
        return


def read_peak_memory() -> float:
    """Return the most memory that this process held since the reset, in MiB.

    Where there is no reset, the most it ever held; NaN where that is unknown too.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return math.nan
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)
