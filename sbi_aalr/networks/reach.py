"""How far from the data of training a network can be relied on."""

import warnings

from torch import Tensor

from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.networks.scale import Scale, sort_trials

# Ranges of the data of training, from the nearer end.
_FAR = 1.0


def warn_if_beyond(x: Tensor, scales: list[Scale], stacklevel: int) -> None:
    """Warn of data that lie a whole range beyond all data of training.

    A wrong unit or order does that, or a sentinel. What is nearer, or unlike them in
    several numbers at once, `warn_if_misspecified` finds.

    Args:
        x: Data, shape `(n, *event_shape)`.
        scales: What the data meet first in the network; see `find_scales`.
        stacklevel: As the caller would give it to `warnings.warn`.

    Warns:
        FarObservationWarning: If there are any. Its `value` is the number of ranges.
    """
    for scale in scales:
        excess = scale.measure_excess(x).flatten(1)
        is_far = (excess > _FAR).any(dim=1)
        if not is_far.any():
            continue
        row, column = divmod(int(excess.argmax()), excess.shape[1])
        low, high = (float(end.flatten()[column]) for end in scale.find_range())
        rows = x if scale.sorted is None else sort_trials(x)
        value = float(rows[row].flatten()[column])
        what, which = "`x` is", "it"
        if len(x) > 1:
            what = f"{int(is_far.sum())} of {len(x)} rows of `x` are"
            which = f"row {row}"
        warnings.warn(
            FarObservationWarning(
                f"{what} far from the simulations that the network is scaled by: "
                f"{which} has {value:.5g} in column {column}, where they are from "
                f"{low:.5g} to {high:.5g}. The network has not been there: check units "
                "and order of the data, the simulator and the prior.",
                value=float(excess[row, column]),
            ),
            stacklevel=stacklevel + 1,
        )
        return
