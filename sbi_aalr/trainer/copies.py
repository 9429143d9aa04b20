"""What copies and pickles of a trainer are made of.

sbi leaves out the builder, which pickle cannot always take and without which a copy
cannot be trained.
"""

import warnings
from typing import Any

import cloudpickle

from sbi_aalr.trainer.no_tracker import NoTracker


def pack(state: dict[str, Any]) -> dict[str, Any]:
    """All that a trainer holds but its tracker, as pickle takes it.

    Warns:
        UserWarning: If there is a tracker.
    """
    if not isinstance(state["_tracker"], NoTracker):
        warnings.warn(
            "A tracker cannot be copied: the copy of this trainer has none.",
            stacklevel=3,
        )
    builder = cloudpickle.dumps(state["_build_neural_net"])
    return {**state, "_tracker": None, "_build_neural_net": builder}


def unpack(packed: dict[str, Any]) -> dict[str, Any]:
    """What `pack` was given, without the tracker."""
    builder = cloudpickle.loads(packed["_build_neural_net"])
    return {**packed, "_build_neural_net": builder}
