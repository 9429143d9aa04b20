"""How far from the data of training a network can be relied on."""

import warnings

from torch import Tensor

from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.networks.scale import Scale, sort_trials

# Ranges of the simulations, from the nearer end.
_FAR = 1.0


def warn_if_beyond(x: Tensor, scales: list[Scale], stacklevel: int) -> None:
    """Warn of data that lie a whole range beyond the simulations scaled by.

    A wrong unit or order does that, or a sentinel. What is nearer, or unlike them in
    several numbers at once, `warn_if_misspecified` finds.

    Args:
        x: Data, shape `(n, *event_shape)`.
        scales: What the data meet first in the network; see `find_scales`.
        stacklevel: As the caller would give it to `warnings.warn`.

    Warns:
        FarObservationWarning: If there are any. Its `value` is the number of ranges.
    """
    if not scales:
        return
    # The others are of the same simulations.
    scale = scales[0]
    excess = scale.measure_excess(x)
    is_far = (excess > _FAR).flatten(1).any(dim=1)
    if not is_far.any():
        return
    row, column = divmod(int(excess.argmax()), excess[0].numel())
    # Of i.i.d. trials a scale may be of one.
    low, high = (
        float(end.expand(x.shape[1:]).flatten()[column]) for end in scale.find_range()
    )
    rows = x if scale.sorted is None else sort_trials(x)
    value = float(rows[row].flatten()[column])
    what, which = "`x` is", "it"
    if len(x) > 1:
        what = f"{int(is_far.sum())} of {len(x)} rows of `x` are"
        which = f"row {row}"
    warnings.warn(
        FarObservationWarning(
            f"{what} far from the simulations that the network is scaled by: {which} "
            f"has {value:.5g} in column {column}, where they are from {low:.5g} to "
            f"{high:.5g}. The network has not been there: check units and order of the "
            "data, the simulator and the prior.",
            value=float(excess.max()),
        ),
        stacklevel=stacklevel + 1,
    )
