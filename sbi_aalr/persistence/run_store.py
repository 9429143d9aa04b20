"""Write a finished run as one Zarr or NetCDF store, and read it again."""

from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sbi_aalr.diagnostics.convergence import read_convergence
from sbi_aalr.diagnostics.draws import read_draws
from sbi_aalr.diagnostics.run_tree import run_to_datatree
from sbi_aalr.files import (
    check_output_file,
    check_path,
    hash_tensors,
    read_datatree,
    write_datatree,
)
from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.mcmc.convergence import Convergence
from sbi_aalr.persistence.finished_chunks import remove_if_finished
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.target import RatioTarget, Target

_ESTIMATOR = "estimator"
SUFFIXES = (".nc", ".zarr")


def check_store(out: str | Path) -> Path:
    """Return the path of a store that can be written, or raise before any work is done.

    Args:
        out: A path that ends in `.nc` or `.zarr`.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ImportError: If Zarr is asked for and not installed.
        IsADirectoryError: If it is a folder that is no store.
        OSError: If nothing can be written there.
        ValueError: If it ends otherwise, or exists already.
    """
    path = check_path("out", out)
    if path.exists():
        remove_if_finished(locate_parts(path))
    check_output_file("out", out, SUFFIXES)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`out` must lie in a folder that exists, got {str(out)!r}. Make "
            f"{path.parent} first."
        )
    if path.suffix == ".zarr" and find_spec("zarr") is None:
        raise ImportError(
            "A Zarr store needs zarr. Install it with `pip install 'sbi-aalr[zarr]'`, "
            "or let `out` end in .nc."
        )
    return path


def locate_parts(store: Path) -> Path:
    """The folder beside a store that holds what is done until it is written."""
    return store.parent / f"{store.name}.parts"


def write_run(path: Path, run: Run) -> Path:
    """Write a finished run, whole or not at all.

    Args:
        path: File for NetCDF, or folder for Zarr, by its ending.
        run: The run.
    """
    return write_chains(path, run_to_datatree(run), run.target)


def write_chains(path: Path, tree: xr.DataTree, target: Target) -> Path:
    """Write the chains of a run, whatever else the tree holds, whole or not at all.

    Args:
        path: File for NetCDF, or folder for Zarr, by its ending.
        tree: What `run_to_datatree` gave, perhaps with more groups.
        target: What was sampled, to be known again.
    """
    tree = tree.copy(deep=False)
    tree.attrs = {**tree.attrs, **_identify(target)}
    return write_datatree(path, tree)


def read_run(path: Path, target: Target) -> Run:
    """Read a run that `write_run` wrote, or chains that `to_datatree` made.

    Args:
        path: A NetCDF file.
        target: What was sampled.

    Raises:
        ValueError: If the file is damaged, or its chains are of another width than the
            target or were drawn with another estimator.
    """
    tree = _read_tree(path)
    wanted = _identify(target)
    if wanted.get(_ESTIMATOR) != tree.attrs.pop(_ESTIMATOR, wanted.get(_ESTIMATOR)):
        raise ValueError(
            "`chains` must be drawn with the estimator that is there, but those in "
            f"{path} were drawn with another. Sample again."
        )
    draws = read_draws(tree)
    width = draws.theta.shape[-1]
    if target.ratio_dim not in (None, width):
        raise ValueError(
            f"`chains` must have the {target.ratio_dim} parameters of the posterior, "
            f"got {width} in {path}."
        )
    chains = _read_chains(tree)
    settings = {str(name): value for name, value in tree.attrs.items()}
    return Run(
        chains=chains,
        warmup=_read_warmup(tree, chains),
        convergence=_read_convergence(tree, chains),
        observed=_read_observed(tree),
        batched=draws.batched,
        settings=settings,
        created_at=_read_date(settings),
        target=target,
        parameter_names=draws.parameter_names,
    )


def _read_tree(path: Path) -> xr.DataTree:
    tree = read_datatree(path)
    for group in ("posterior", "observed_data"):
        if group not in tree.children:
            raise ValueError(
                f"{path} must have the groups `posterior` and `observed_data`, got "
                f"{sorted(tree.children)}. Write it with `to_datatree`."
            )
    return tree


def _identify(target: Target) -> dict[str, str]:
    """What tells one estimator from another; nothing where there is none."""
    if not isinstance(target, RatioTarget):
        return {}
    return {_ESTIMATOR: hash_tensors(target.estimator.state_dict())}


def _read_chains(tree: xr.DataTree, prefix: str = "") -> Chains:
    """Read chains, or with the prefix `warmup_` what came before them.

    Statistics that are not there are NaN.
    """
    drawn = tree[f"{prefix}posterior"].to_dataset()
    theta = _to_tensor(drawn["theta"], "parameter")
    group = f"{prefix}sample_stats"
    found = tree[group].to_dataset() if group in tree.children else drawn
    missing = torch.full(theta.shape[:3], torch.nan)
    log_prob, acceptance_rate, accepted = (
        _to_tensor(found[name]) if name in found else missing
        for name in ("lp", "acceptance_rate", "accepted")
    )
    return Chains(theta, log_prob, acceptance_rate, accepted.bool())


def _read_warmup(tree: xr.DataTree, chains: Chains) -> Chains:
    if "warmup_posterior" in tree.children:
        return _read_chains(tree, "warmup_")
    return Chains(*(field[:, :0] for field in vars(chains).values()))


def _to_tensor(values: xr.DataArray, *last: str) -> Tensor:
    """A tensor `(C, S, B, ...)`, with one observation where there is no such axis."""
    if "observation" not in values.dims:
        values = values.expand_dims("observation")
    ordered = values.transpose("chain", "draw", "observation", *last)
    return torch.from_numpy(np.array(ordered.values))


def _read_convergence(tree: xr.DataTree, chains: Chains) -> Convergence:
    """What the sampler measured; measured anew where it is not in the tree."""
    found = read_convergence(tree)
    if "observation" not in found.dims:
        found = found.expand_dims("observation")
    values = {
        str(name): torch.from_numpy(np.array(variable.values))
        for name, variable in found.data_vars.items()
    }
    count = chains.num_observations
    # What only the sampler knows.
    unknown = {
        "acceptance_rate": chains.acceptance_rate.mean(dim=(0, 1)),
        "num_steps": torch.zeros(count, dtype=torch.long),
        "converged": torch.zeros(count, dtype=torch.bool),
    }
    return Convergence(**{**unknown, **values})


def _read_observed(tree: xr.DataTree) -> Tensor:
    """Observations `(B, *event_shape)`, or trials of one `(T, *event_shape)`."""
    observed = tree["observed_data"]["x"]
    rows = torch.as_tensor(np.array(observed.values))
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return rows if {"observation", "trial"} & set(observed.dims) else rows[None]


def _read_date(attributes: dict[str, Any]) -> datetime:
    written = attributes.get("created_at")
    return datetime.now(UTC) if written is None else datetime.fromisoformat(written)
