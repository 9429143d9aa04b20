"""Write a finished run as one Zarr or NetCDF store, and say which run it is."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbi.inference.potentials.base_potential import BasePotential
from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.files import write_whole
from sbi_aalr.sampling.parameters import MHPosteriorParameters

if TYPE_CHECKING:
    import xarray as xr

_SUFFIXES = (".nc", ".zarr")


def check_store(out: str | Path) -> Path:
    """Return the path of a store that can be written, or raise before any work is done.

    Args:
        out: A path that ends in `.nc` or `.zarr`.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ImportError: If Zarr is asked for and not installed.
        ValueError: If it ends otherwise, or exists already.
    """
    path = Path(out)
    if path.suffix not in _SUFFIXES:
        raise ValueError(
            f"`out` must end in .nc for NetCDF or .zarr for Zarr, got {str(out)!r}."
        )
    if path.exists():
        raise ValueError(
            f"`out` must not exist yet, but {path} does: its run is finished. Choose "
            "another name, or read it with `xarray.open_datatree`."
        )
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(
            f"`out` must lie in a folder that exists, got {str(out)!r}. Make "
            f"{path.resolve().parent} first."
        )
    if path.suffix == ".zarr" and find_spec("zarr") is None:
        raise ImportError(
            "A Zarr store needs zarr. Install it with `pip install 'sbi-aalr[zarr]'`, "
            "or let `out` end in .nc."
        )
    return path


def locate_parts(store: Path) -> Path:
    """The folder beside a store that holds what is done until it is written."""
    return store.with_name(f"{store.name}.parts")


def write_store(store: Path, tree: "xr.DataTree", diagnostics: "xr.Dataset") -> None:
    """Write chains and their diagnostics, whole or not at all."""
    import xarray as xr

    tree["diagnostics"] = xr.DataTree(diagnostics)
    if store.suffix == ".nc":
        write_whole(store, lambda path: tree.to_netcdf(path, engine="h5netcdf"))
    else:
        # Version 3 has no specification yet for the text that names parameters.
        write_whole(store, lambda path: tree.to_zarr(path, mode="w", zarr_format=2))


def identify(
    potential_fn: BasePotential, x: Tensor, parameters: MHPosteriorParameters
) -> dict[str, Any]:
    """What tells one run from another: data, network and settings.

    Args:
        potential_fn: What is sampled.
        x: The observations.
        parameters: The settings.

    Returns:
        Names and values that JSON can hold.
    """
    settings = parameters.to_dict()
    if not isinstance(settings["kernel"], str):
        settings["kernel"] = "custom"
    estimator = getattr(potential_fn, "ratio_estimator", None)
    weights = {} if estimator is None else estimator.state_dict()
    return {
        "sbi_aalr": __version__,
        "x": _hash([x]),
        "potential": type(potential_fn).__name__,
        "estimator": _hash([weights[name] for name in sorted(weights)]),
        **settings,
    }


def _hash(tensors: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
