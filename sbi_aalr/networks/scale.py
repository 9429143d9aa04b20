"""Input scaling that survives heavy tails, many decades, integers and constants."""

from typing import Any

import torch
from torch import Tensor, nn

from sbi_aalr.checks import check_tensor

# The distance between these quantiles of a Gaussian is two standard deviations.
_QUANTILES = (0.1587, 0.8413)
# Between these, uniform numbers from 0 on span 1.6 decades, half a Cauchy 2.8.
_OUTER_QUANTILES = (0.025, 0.975)
_MANY_DECADES = 2.5
# Below the least of float32 there is nothing to tell apart.
_LEAST = torch.finfo(torch.float32).tiny
# Scaled rows beyond this lie as far as this.
_LARGEST = 1e30
# A value that so many rows share and that is so many spreads from all others stands for
# something else, such as a simulation that failed.
_SHARED, _APART = 0.01, 10.0
# Rows that are looked at for that.
_SOME_ROWS = 2_000
# Of a spread, by which a location may be off.
_SMALL_SHARE = 1e-3
# As many as `torch.quantile` took before torch 2.6.
_MAX_ENTRIES = 16_000_000
# Buffers that only some rows ask for, or that files of before lack.
_OPTIONAL = {
    "remainder": torch.float32,
    "logarithmic": torch.bool,
    "sorted": torch.bool,
    "least": torch.float32,
    "greatest": torch.float32,
}


class Scale(nn.Module):
    """Centre and scale each feature by its median and quantiles.

    Heavy tails move a mean and blow up a standard deviation, and then most of the data
    share a small part of the range; quantiles do not see them. Features without spread
    between the quantiles fall back on their standard deviation, constant ones on 1.
    A value far from all others that many rows share, which stands for a simulation that
    failed, say, has no part in them.

    Of features that are positive and span many decades the logarithm is scaled, as all
    small values would look the same otherwise; see `spans_decades`.

    What comes out is float32. Rows of float64 are centred before they are rounded, so
    that values near 1e6 ± 1 keep their digits.

    Args:
        batch: Rows to take the scales from, shape `(N, *event_shape)`.
        logarithmic: Which features, shape `event_shape`, to take the logarithm of; by
            default those that `spans_decades` finds.
    """

    location: Tensor
    spread: Tensor
    # What float32 leaves of the location, which features are logarithms, and whether
    # rows of trials are sorted. They are None where no feature needs them, and then not
    # among the weights.
    remainder: Tensor | None
    logarithmic: Tensor | None
    sorted: Tensor | None
    # Of the scaled rows; None in files of before.
    least: Tensor | None
    greatest: Tensor | None

    def __init__(self, batch: Tensor, logarithmic: Tensor | None = None) -> None:
        super().__init__()
        if check_tensor("batch", batch).ndim < 2 or batch.numel() == 0:
            raise ValueError(
                "`batch` must have rows, (N, *event_shape), got shape "
                f"{tuple(batch.shape)}."
            )
        rows = take_rows(batch)
        if logarithmic is None:
            logarithmic = spans_decades(rows)
        rows = _take_logarithms(rows, logarithmic)
        location, spread = _measure(rows)
        spread = torch.where(spread > 0, spread, rows.std(dim=0, correction=0))
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        remainder = location - location.float()
        step = torch.finfo(torch.float32).eps * location.abs()
        is_needed = bool((step > _SMALL_SHARE * spread).any())
        self.register_buffer("location", location.float())
        self.register_buffer("spread", spread.float())
        self.register_buffer("remainder", remainder.float() if is_needed else None)
        self.register_buffer("logarithmic", logarithmic if logarithmic.any() else None)
        self.register_buffer("sorted", None)
        for name, end in (("least", rows.amin(dim=0)), ("greatest", rows.amax(dim=0))):
            scaled = ((end - location) / spread).clamp(-_LARGEST, _LARGEST)
            self.register_buffer(name, scaled.float())

    def forward(self, rows: Tensor) -> Tensor:
        """Scale rows, shape `(N, *event_shape)`, to order one."""
        if not rows.is_floating_point():
            rows = rows.double()
        # Trials that are rows by themselves are in order.
        if self.sorted is not None and rows.ndim == 3:
            rows = sort_trials(rows)
        if self.logarithmic is not None:
            # Where steps of float32 count, its logarithm is too coarse as well.
            rows = rows if self.remainder is None else rows.double()
            rows = _take_logarithms(rows, self.logarithmic)
        centred = rows - self.location
        if self.remainder is not None:
            centred = centred - self.remainder
        return (centred / self.spread).to(self.location.dtype)

    def sort_rows(self) -> None:
        """Sort the T trials of rows `(N, T, E)` first, whose order means nothing."""
        self.sorted = torch.ones_like(self.location, dtype=torch.bool)

    def sees_rounding(self, rows: Tensor) -> bool:
        """Whether rows, `(N, *event_shape)`, would look different as float32."""
        if rows.dtype == torch.float32:
            return False
        change = self(rows.double()) - self(rows.float())
        return bool((change.abs() > _SMALL_SHARE).any())

    def measure_excess(self, rows: Tensor) -> Tensor:
        """How far rows lie beyond those the scales were taken from, in their ranges.

        Args:
            rows: Shape `(N, *event_shape)`.

        Returns:
            Distances, same shape: 0 within the range, 1 for a whole range beyond it.
        """
        if self.least is None or self.greatest is None:
            return torch.zeros_like(rows, dtype=self.location.dtype)
        scaled = self(rows).clamp(-_LARGEST, _LARGEST)
        beyond = torch.maximum(self.least - scaled, scaled - self.greatest)
        rounding = 2 * torch.finfo(torch.float32).eps * self.location.abs()
        beyond = (beyond - rounding / self.spread).clamp(min=0)
        # What was constant has a range of 0.
        return beyond / (self.greatest - self.least).clamp(min=1)

    def find_range(self) -> tuple[Tensor, Tensor]:
        """Least and greatest of the rows, `event_shape` each, before scaling."""
        ends = []
        for end in (self.least, self.greatest):
            rows = self.location + self.spread * (0 if end is None else end)
            if self.logarithmic is not None:
                rows = torch.where(self.logarithmic, rows.exp(), rows)
            ends.append(rows)
        return ends[0], ends[1]

    def forget_rows(self) -> None:
        """Have no buffer that only some rows ask for, before weights are loaded."""
        for name in _OPTIONAL:
            setattr(self, name, None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles of before may lack a buffer."""
        for name in _OPTIONAL:
            state["_buffers"].setdefault(name, None)
        super().__setstate__(state)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        """Take over which buffers there are, too: a network is built from any rows."""
        for name, dtype in _OPTIONAL.items():
            buffer = state_dict.get(prefix + name)
            if buffer is not None:
                is_bool = buffer.dtype == torch.bool
                fits = buffer.shape == self.location.shape
                if not fits or is_bool != (dtype == torch.bool):
                    raise ValueError(f"`{prefix}{name}` does not fit its `location`.")
                kind = dtype if is_bool else self.location.dtype
                buffer = buffer.to(self.location.device, kind, copy=True)
            setattr(self, name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def sort_trials(x: Tensor) -> Tensor:
    """Sort the trials of each row by their first number; ties by the next.

    Args:
        x: Data of T trials each, shape `(N, T, E)`.

    Returns:
        The same trials in order.

    Example:
        >>> sort_trials(torch.tensor([[[2.0, 0.0], [1.0, 5.0], [1.0, 3.0]]])).tolist()
        [[[1.0, 3.0], [1.0, 5.0], [2.0, 0.0]]]
    """
    order = x[..., 0].argsort(dim=1, stable=True)
    if bool((x[..., 0].gather(1, order).diff(dim=1) == 0).any()):
        # From the last number to the first, each time keeping what was equal in order.
        for column in x.flip(2).unbind(2):
            order = order.gather(1, column.gather(1, order).argsort(dim=1, stable=True))
    return x.gather(1, order.unsqueeze(2).expand_as(x))


def spans_decades(batch: Tensor) -> Tensor:
    """Which features are positive and span more decades than a linear scale resolves.

    A log-uniform distribution over three decades or more does, so do a log-normal one
    from a sigma of 1.5 on and half a Cauchy; uniform and exponential ones do not. Of
    images and of series all features count together. One negative number that many
    rows share may be among the others; it stands for what was not measured, say.

    Args:
        batch: Rows, shape `(N, *event_shape)`.

    Returns:
        Booleans, shape `event_shape`.

    Example:
        >>> decades = torch.linspace(-12, 0, 100)
        >>> spans_decades(torch.stack((10**decades, decades), dim=1))
        tensor([ True, False])
    """
    rows = take_rows(batch)
    least = rows.amin(dim=0)
    stands_in = (rows == least) & (least < 0)
    stands_in &= _are_many(stands_in)
    if stands_in.any():
        rows = torch.where(stands_in, torch.nan, rows)
    low, high = _find_quantiles(rows, _OUTER_QUANTILES)
    is_positive = ((rows > 0) | stands_in).all(dim=0)
    spans = is_positive & (high > low * 10**_MANY_DECADES)
    return spans if spans.ndim < 2 else spans.all().expand(spans.shape).clone()


def take_rows(batch: Tensor) -> Tensor:
    """As many rows as torch can rank, in float64."""
    num_rows = max(2, _MAX_ENTRIES // max(1, batch[0].numel()))
    return batch[:num_rows].detach().double()


def _measure(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Median and half the distance between the quantiles, `event_shape` each."""
    low, high = _find_quantiles(rows, _QUANTILES)
    places, sizes = rows.median(dim=0).values.flatten(), (high - low).flatten() / 2
    some = rows.flatten(1)[:: max(1, len(rows) // _SOME_ROWS)]
    kept = torch.ones_like(some, dtype=torch.bool)
    levels = torch.tensor((_QUANTILES[0], 0.5, _QUANTILES[1])).to(some)
    # From below and from above, and again: what is on the other side hides some.
    for sign in (1, -1) * 2:
        edge, is_edge = _find_edge(some, kept, sign)
        is_edge &= _are_many(is_edge)
        without = kept & ~is_edge
        column = (is_edge.any(dim=0) & without.any(dim=0)).nonzero()[:, 0]
        if len(column) == 0:
            continue
        rest = torch.where(without, some, torch.nan)[:, column]
        low, middle, high = torch.nanquantile(rest, levels, dim=0)
        size = (high - low) / 2
        gap = sign * (_find_edge(rest, without[:, column], sign)[0] - edge[column])
        is_apart = (size > 0) & (gap > _APART * size)
        places[column[is_apart]] = middle[is_apart]
        sizes[column[is_apart]] = size[is_apart]
        is_left_out = column[gap > size]
        kept[:, is_left_out] = without[:, is_left_out]
    return places.reshape(rows.shape[1:]), sizes.reshape(rows.shape[1:])


def _are_many(chosen: Tensor) -> Tensor:
    """In which features so many rows are chosen that it is not by chance."""
    return chosen.sum(dim=0) >= max(2, _SHARED * len(chosen))


def _find_edge(rows: Tensor, kept: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """The least of the rows kept, the greatest for sign -1, and where they have it."""
    signed = torch.where(kept, sign * rows, torch.inf)
    least = signed.amin(dim=0)
    return sign * least, kept & (signed == least)


def _find_quantiles(rows: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Quantiles of each feature without NaN, shape `(len(levels), *event_shape)`."""
    where = torch.tensor(levels, dtype=rows.dtype, device=rows.device)
    # The one takes twice as long as the other.
    rank = torch.nanquantile if rows.isnan().any() else torch.quantile
    return rank(rows.flatten(1), where, dim=0).unflatten(1, rows.shape[1:])


def _take_logarithms(rows: Tensor, logarithmic: Tensor) -> Tensor:
    """Logarithms of some features; what is not positive counts as the least number."""
    return torch.where(logarithmic, rows.clamp(min=_LEAST).log(), rows)
