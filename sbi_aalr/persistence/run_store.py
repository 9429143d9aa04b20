"""Write a finished run as one Zarr or NetCDF store, and say which run it is."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.diagnostics.run_tree import run_to_datatree
from sbi_aalr.files import write_datatree
from sbi_aalr.sampling.run import Run
from sbi_aalr.sampling.settings import Settings
from sbi_aalr.sampling.target import RatioTarget, Target

_SUFFIXES = (".nc", ".zarr")


def check_store(out: str | Path) -> Path:
    """Return the path of a store that can be written, or raise before any work is done.

    Args:
        out: A path that ends in `.nc` or `.zarr`.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ImportError: If Zarr is asked for and not installed.
        IsADirectoryError: If it is a folder that is no store.
        ValueError: If it ends otherwise, or exists already.
    """
    path = Path(out)
    if path.is_dir() and path.suffix != ".zarr":
        raise IsADirectoryError(f"`out` must be a file, but {path} is a folder.")
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


def write_run(path: Path, run: Run) -> Path:
    """Write a finished run, whole or not at all.

    Args:
        path: File for NetCDF, or folder for Zarr, by its ending.
        run: The run.
    """
    return write_datatree(path, run_to_datatree(run))


def identify(target: Target, x: Tensor, settings: Settings) -> dict[str, Any]:
    """What tells one run from another: data, network and settings.

    Args:
        target: What is sampled.
        x: The observations.
        settings: How.

    Returns:
        Names and values that JSON can hold.
    """
    chosen = settings.to_dict()
    if not isinstance(chosen["kernel"], str):
        chosen["kernel"] = "custom"
    weights = target.estimator.state_dict() if isinstance(target, RatioTarget) else {}
    return {
        "sbi_aalr": __version__,
        "x": _hash([x]),
        "potential": target.name,
        "estimator": _hash([weights[name] for name in sorted(weights)]),
        **chosen,
    }


def _hash(tensors: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
