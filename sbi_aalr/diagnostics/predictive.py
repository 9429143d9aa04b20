"""Prior and posterior predictive draws, as further groups of the DataTree.

With them ArviZ's predictive checks have what they need: do data simulated from the
posterior look like the data that were seen?

References:
    Gelman, Meng & Stern (1996), Statistica Sinica 6, for posterior predictive checks.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import check_positive_int, check_prior
from sbi_aalr.diagnostics.draws import Array, read_draws
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt
from sbi_aalr.types import Simulator


def add_predictive(
    datatree: xr.DataTree,
    simulator: Callable[..., Any],
    prior: Distribution,
    *,
    num_draws: int = 1_000,
    seed: int | None = None,
    exclude_invalid_x: bool = False,
) -> xr.DataTree:
    """Add the groups `prior`, `prior_predictive` and `posterior_predictive`.

    | group | variable | dimensions |
    |---|---|---|
    | `prior` | `theta` | `chain, draw, parameter` |
    | `prior_predictive` | `x` | `chain, draw[, trial], x_dim_0, ...` |
    | `posterior_predictive` | `x` | `chain, draw[, observation or trial], ...` |

    Posterior draws are taken evenly along all chains. Where i.i.d. trials were
    observed, as many are simulated for each draw.

    Args:
        datatree: What `to_datatree` returns, with `observed_data` in it.
        simulator: Any simulator that sbi accepts.
        prior: The prior.
        num_draws: Draws from the prior, and at least from the posterior of each
            observation, where there are as many.
        seed: Makes the draws repeatable; the global generators are left untouched.
        exclude_invalid_x: Simulate again, at the same parameters, where the simulator
            gives NaN or infinity.

    Returns:
        A new tree, which shares memory with the one given.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the tree has no chains or no observed data, or the simulator
            returns what does not fit to them.
    """
    from arviz_base import from_dict

    if not isinstance(datatree, xr.DataTree):
        raise TypeError(
            f"`datatree` must be a DataTree, got {type(datatree).__name__}. Make it "
            "with `to_datatree`."
        )
    draws = read_draws(datatree)
    check_prior("prior", prior, draws.theta.shape[-1])
    num_draws = check_positive_int("num_draws", num_draws)
    if "observed_data" not in datatree.children:
        raise ValueError(
            "`datatree` must have a group `observed_data`, got "
            f"{sorted(datatree.children)}. Pass `observed_data` to `to_datatree`."
        )
    observed = datatree["observed_data"]["x"]
    trials = observed.sizes.get("trial")
    event_dims = [str(d) for d in observed.dims if d not in ("observation", "trial")]
    thinned = _thin(draws.theta, num_draws)
    batched = adapt(simulator, prior, exclude_invalid_x)
    with seeded(seed):
        prior_theta = prior.sample((num_draws,))
        prior_x = _predict(batched, prior_theta, trials)
        rows = torch.from_numpy(thinned).flatten(0, 2).to(prior_theta)
        posterior_x = _predict(batched, rows, trials)
    event = tuple(observed.sizes[name] for name in event_dims)
    if prior_x.shape[2 if trials else 1 :] != event:
        raise ValueError(
            f"`simulator` must return rows of shape {event}, as those observed, got "
            f"{prior_x.shape[2 if trials else 1 :]}."
        )
    posterior_x = posterior_x.reshape(*thinned.shape[:3], *posterior_x.shape[1:])
    if not draws.batched:
        posterior_x = posterior_x[:, :, 0]
    per_draw = ["trial"] if trials is not None else []
    per_observation = ["observation"] if draws.batched else []
    groups = {
        "prior": ({"theta": prior_theta.cpu().numpy()[None]}, ["parameter"]),
        "prior_predictive": ({"x": prior_x[None]}, [*per_draw, *event_dims]),
        "posterior_predictive": (
            {"x": posterior_x},
            [*per_observation, *per_draw, *event_dims],
        ),
    }
    added = {}
    for name, (variables, dims) in groups.items():
        tree = from_dict(
            {name: variables},
            sample_dims=["chain", "draw"],
            index_origin=0,
            coords={"parameter": draws.parameter_names},
            dims=dict.fromkeys(variables, dims),
            check_conventions=False,
            attrs={name: dict(datatree.attrs)},
        )
        added[f"/{name}"] = tree[name].to_dataset()
    return xr.DataTree.from_dict({**datatree.to_dict(), **added})


def _thin(theta: Array, count: int) -> Array:
    """Keep the fewest evenly spaced draws of each chain that make `count` in all."""
    chains, draws = theta.shape[:2]
    kept = min(draws, math.ceil(count / chains))
    index = np.linspace(0, draws - 1, kept).round().astype(int)
    return theta[:, index]


def _predict(simulate: Simulator, theta: Tensor, trials: int | None) -> Array:
    """Simulate each row, shape `(N[, T], *event_shape)`."""
    repeated = theta.repeat_interleave(trials or 1, dim=0)
    x = simulate(repeated).cpu()
    if trials is not None:
        x = x.unflatten(0, (len(theta), trials))
    return x.numpy()
