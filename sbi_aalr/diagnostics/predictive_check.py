r"""Would the posterior have given these data? A posterior predictive check.

For draws of the posterior, data are simulated again. The discrepancy of data x from
theta is $\chi^2 = \sum_i (x_i - \mu_i(\theta))^2 / \sigma_i^2(\theta)$, with mean and
width of each feature of simulations from theta. The p-value is the share of simulations
that are as discrepant as what was observed: near one half for the exact posterior,
small where data do not fit, large where more noise is claimed than there is.

References:
    Gelman, Meng & Stern (1996), Statistica Sinica 6, for discrepancies that depend on
    the parameters, and their p-values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_fraction, check_int_from, check_prior
from sbi_aalr.diagnostics.draws import Array, read_draws
from sbi_aalr.diagnostics.plot_style import BLUE, GREY, INK, RED, make_axes
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt
from sbi_aalr.types import Simulator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Share of the simulations from each theta that give mean and width; the others repeat.
_MOMENTS = 0.6
# So much does the width over all theta count, in simulations, lest one be zero.
_SHRINKAGE = 2.0
# A feature counts no more than this: one outlier does not outweigh all others.
_MOST = 100.0


@dataclass(frozen=True)
class PredictiveCheck:
    """What `predictive_check` found, for each of `B` observations.

    Attributes:
        p_values: Share of repeated data that are as discrepant as what was observed,
            shape `(B,)`.
        observed: Discrepancy of what was observed from each draw, shape `(B, S)`.
        repeated: The same of data simulated from each draw, shape `(B, S, R)`.
        observations: Which observations were checked, shape `(B,)`.
        false_alarm_rate: Largest probability with which the exact posterior fails.
    """

    p_values: Array
    observed: Array
    repeated: Array
    observations: Array
    false_alarm_rate: float

    @property
    def limit(self) -> float:
        """What a p-value, or its distance from one, must be at least."""
        return self.false_alarm_rate / 2 / len(self.p_values)

    @property
    def passed(self) -> bool:
        """Whether no p-value is too small, or too near to one."""
        return bool(self._distance.min() >= self.limit)

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        worst = int(self._distance.argmin())
        p = float(self.p_values[worst])
        least = 1 / self.repeated[worst].size
        shown = f"{p:.2g}" if least <= p <= 1 - least else "0" if p < 0.5 else "1"
        which = ""
        if len(self.p_values) > 1:
            which = f" for observation {int(self.observations[worst])}, the worst of "
            which += f"{len(self.p_values)}"
        numbers = f"p = {shown}{which}, and it should lie between {self.limit:.2g} and "
        numbers += f"{1 - self.limit:.4g}"
        if self.passed:
            return f"No flaw found: {numbers}."
        if p < 0.5:
            return (
                "The posterior does not predict the data: they are farther from what "
                f"it simulates than its own simulations are ({numbers})."
            )
        return (
            "The posterior predicts more scatter than the data have: they are nearer "
            f"to its mean than its own simulations are ({numbers})."
        )

    @property
    def _distance(self) -> Array:
        return np.minimum(self.p_values, 1 - self.p_values)

    def plot(self) -> "Figure":
        """Draw the discrepancy of the data beside that of repeated ones."""
        worst = int(self._distance.argmin())
        figure, (axes,) = make_axes(6.5, 3.2)
        parts = self.repeated[worst].ravel(), self.observed[worst]
        low = min(float(part.min()) for part in parts)
        high = max(float(np.quantile(part, 0.995)) for part in parts)
        bins = np.linspace(low, high if high > low else low + 1, 40).tolist()
        for part, color, label in zip(
            parts, (GREY, BLUE), ("simulated again", "observed"), strict=True
        ):
            clipped = np.clip(part, bins[0], bins[-1])
            axes.hist(clipped, bins, density=True, color=color, alpha=0.5, label=label)
        axes.axvline(float(np.median(parts[1])), color=RED, linewidth=1.2)
        axes.set_xlabel("χ² of the data, over draws of the posterior", color=INK)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        return figure


def predictive_check(
    datatree: xr.DataTree,
    simulator: Callable[..., Any],
    prior: Distribution,
    *,
    num_draws: int = 100,
    num_repeats: int = 40,
    max_observations: int = 10,
    false_alarm_rate: float = 0.05,
    seed: int | None = None,
    exclude_invalid_x: bool = False,
) -> PredictiveCheck:
    """Test whether data as those observed would come from draws of the posterior.

    Args:
        datatree: What `to_datatree` returns, with `observed_data` in it.
        simulator: Any simulator that sbi accepts.
        prior: The prior.
        num_draws: Draws of the posterior for each observation, `S`.
        num_repeats: Simulations from each draw, 10 at least.
        max_observations: How many observations to check, evenly spaced.
        false_alarm_rate: Largest probability with which the exact posterior fails.
        seed: Makes the check repeatable; the global generators are left untouched.
        exclude_invalid_x: Simulate again, at the same parameters, where the simulator
            gives NaN or infinity.

    Returns:
        P-values and a verdict.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the tree has no chains or no observed data, or the simulator
            returns what does not fit to them.

    Example:
        >>> import torch
        >>> from torch.distributions import MultivariateNormal
        >>> from sbi_aalr.diagnostics import to_datatree
        >>> prior = MultivariateNormal(torch.zeros(3), torch.eye(3))
        >>> def simulate(theta):
        ...     return theta + torch.randn_like(theta)
        >>> exact = torch.randn(4, 100, 3) / 2**0.5 + 0.5  # for x = 1
        >>> tree = to_datatree(exact, observed_data=torch.ones(3))
        >>> predictive_check(tree, simulate, prior, seed=1).passed
        True
    """
    if not isinstance(datatree, xr.DataTree) or "observed_data" not in datatree:
        raise ValueError(
            "`datatree` must be a DataTree with the group `observed_data`. Make it "
            "with `to_datatree(..., observed_data=x_o)`."
        )
    draws = read_draws(datatree)
    check_prior("prior", prior, draws.theta.shape[-1])
    num_draws = check_int_from("num_draws", num_draws, 2)
    num_repeats = check_int_from("num_repeats", num_repeats, 10)
    most = check_int_from("max_observations", max_observations, 1)
    rate = check_fraction("false_alarm_rate", false_alarm_rate)
    rows = _read_rows(datatree, draws.batched)
    chosen = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
    flat = draws.theta.reshape(-1, *draws.theta.shape[2:])
    place = np.linspace(0, len(flat) - 1, min(num_draws, len(flat))).round().astype(int)
    batched = adapt(simulator, prior, exclude_invalid_x)
    observed, repeated = [], []
    with seeded(seed):
        for index in chosen:
            theta = torch.from_numpy(flat[place, index]).float()
            found = _measure(theta, rows[index], batched, num_repeats)
            observed.append(found[0])
            repeated.append(found[1])
    seen, again = np.stack(observed), np.stack(repeated)
    above = (again > seen[..., None]).mean(axis=(1, 2))
    level = (again == seen[..., None]).mean(axis=(1, 2))
    return PredictiveCheck(above + level / 2, seen, again, chosen, rate)


def _read_rows(datatree: xr.DataTree, batched: bool) -> Tensor:
    """Observations with their trials, `(B, T, E)`."""
    x = datatree["observed_data"]["x"]
    rows = torch.as_tensor(np.array(x.values), dtype=torch.float64)
    if batched:
        return rows.reshape(len(rows), 1, -1)
    return rows.reshape(1, x.sizes.get("trial", 1), -1)


def _measure(
    theta: Tensor, row: Tensor, simulate: Simulator, num_repeats: int
) -> tuple[Array, Array]:
    """Discrepancies of what was observed `(S,)`, and of what is simulated `(S, R)`."""
    trials = len(row)
    x = simulate(theta.repeat_interleave(num_repeats * trials, dim=0)).double().cpu()
    x = x.reshape(len(theta), num_repeats, trials, -1)
    if x.shape[-1] != row.shape[-1]:
        raise ValueError(
            f"`simulator` must return {row.shape[-1]} numbers a row, as were observed, "
            f"got {x.shape[-1]}."
        )
    cut = round(_MOMENTS * num_repeats)
    past, fresh = x[:, :cut], x[:, cut:]
    mean = past.mean(dim=(1, 2), keepdim=True)
    width = past.var(dim=(1, 2), keepdim=True, correction=0)
    count = cut * trials
    width = (count * width + _SHRINKAGE * width.mean(dim=0)) / (count + _SHRINKAGE)
    # A feature that never varies: any other value of it is infinitely far.
    width = torch.maximum(width, 1e-12 * (mean**2).mean(dim=0) + 1e-30)

    def discrepancy(values: Tensor) -> Array:
        z = ((values - mean) ** 2 / width).clamp(max=_MOST)
        return z.sum(dim=(2, 3)).numpy()

    return discrepancy(row[None, None])[:, 0], discrepancy(fresh)
