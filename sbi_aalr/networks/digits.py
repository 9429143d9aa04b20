"""Which digits of the data a network can tell apart."""

import warnings

import torch
from torch import Tensor, nn

from sbi_aalr.errors import PrecisionWarning
from sbi_aalr.networks.scale import Scale, take_rows

# Steps of float32 in a standard deviation below which its rounding is seen.
_FEW_STEPS = 16


def find_scales(embedding_net: nn.Module) -> list[Scale]:
    """All scales that data meet first in nets side by side; none where one has none."""
    if isinstance(embedding_net, Scale):
        return [embedding_net]
    own = getattr(embedding_net, "scale", None)
    if isinstance(own, Scale):
        return [own]
    if isinstance(embedding_net, nn.Sequential) and len(embedding_net):
        return find_scales(embedding_net[0])
    if not isinstance(embedding_net, nn.ModuleList):
        return []
    scales = []
    for net in embedding_net:
        found = find_scales(net)
        if not found and getattr(net, "sees_data", True):
            return []
        scales += found
    return scales


def round_for(estimator: nn.Module, x: Tensor) -> Tensor:
    """Round data to float32 for an estimator that does not centre them first."""
    embed = getattr(estimator, "embedding_net_x", None)
    if x.dtype != torch.float64 or (embed is not None and find_scales(embed)):
        return x
    return x.float()


def warn_about_lost_digits(x: Tensor, scales: list[Scale], stacklevel: int) -> None:
    """Warn where data are float32, and those of training had digits that it has not.

    Args:
        x: Data, shape `(n, *event_shape)`.
        scales: What the data meet first in the network; see `find_scales`.
        stacklevel: As the caller would give it to `warnings.warn`.

    Warns:
        PrecisionWarning: If a standard deviation of the data of training is a few steps
            of float32 at these data.
    """
    if x.dtype == torch.float64:
        return
    step = torch.finfo(x.dtype).eps * x.abs().amax(dim=0).double()
    for scale in scales:
        # Zero where the data of training were float32 themselves.
        if scale.remainder is None or not scale.remainder.any():
            continue
        # Of i.i.d. trials a scale may be of one.
        spread = scale.spread.expand_as(step)
        few = step / spread
        if scale.logarithmic is not None:
            few = few.masked_fill(scale.logarithmic, 0)
        column = int(few.argmax())
        if few.flatten()[column] * _FEW_STEPS < 1:
            continue
        warnings.warn(
            PrecisionWarning(
                f"`x` is {x.dtype}, which has steps of "
                f"{step.flatten()[column]:.2g} near "
                f"{float(x[0].flatten()[column]):.7g}, while the data of training "
                f"spread by {spread.flatten()[column]:.2g} in column {column} "
                "and had more digits. Give `x` as float64, made without a detour.",
                float(few.flatten()[column]),
            ),
            stacklevel=stacklevel + 1,
        )
        return


def warn_about_rounding(name: str, batch: Tensor) -> None:
    """Warn where float32 rows differ by a few of its steps only.

    Args:
        name: What the rows are, for the message.
        batch: Rows, shape `(N, *event_shape)`.

    Warns:
        PrecisionWarning: If a feature has a standard deviation of a few steps.
    """
    if batch.dtype != torch.float32:
        return
    rows = take_rows(batch)
    centre = rows.median(dim=0).values
    step = torch.finfo(torch.float32).eps * centre.abs()
    spread = rows.std(dim=0, correction=0)
    # A step is between half of this and this.
    is_coarse = ((spread > 0) & (spread < _FEW_STEPS * step)).flatten()
    if not is_coarse.any():
        return
    column = int(is_coarse.nonzero()[0])
    count = rows.flatten(1)[:, column].unique().numel()
    warnings.warn(
        PrecisionWarning(
            f"`{name}` has only {count} different values in {len(rows):,} rows of "
            f"column {column}, as float32 has few near "
            f"{float(centre.flatten()[column]):.7g}. Subtract a constant before the "
            "numbers become float32.",
            count,
        ),
        stacklevel=4,
    )
