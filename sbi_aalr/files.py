"""Files, and folders that are stores, that appear whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from torch import Tensor

_DPI = 150


def write_whole(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Write beside the target first, so that a half-written file is never seen.

    Whatever stops the writing, Ctrl-C included, what was there before stays as it was.

    Args:
        path: The file or folder to write; what it lies in must exist, and a folder must
            not exist yet.
        write_to: Writes the whole content to the path it is given.

    Returns:
        `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_to(temporary)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write text in UTF-8, whole or not at all."""
    return write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))


def write_json(path: Path, document: Any, indent: int | None = 2) -> Path:
    """Write plain data as JSON, whole or not at all."""
    return write_text(path, json.dumps(document, indent=indent) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"]) -> Path:
    """Write tensors of any device by name as safetensors, whole or not at all."""
    from safetensors.torch import save

    # Copied, as safetensors refuses views.
    copies = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    content = save(copies)
    return write_whole(path, lambda target: target.write_bytes(content))


def write_figure(path: Path, figure: "Figure") -> Path:
    """Write a matplotlib figure as PNG, whole or not at all."""
    return write_whole(
        path, lambda target: figure.savefig(target, format="png", dpi=_DPI)
    )


def write_datatree(path: Path, tree: "xr.DataTree") -> Path:
    """Write a DataTree, whole or not at all: as Zarr if it ends so, else as NetCDF."""
    if path.suffix == ".zarr":
        # Version 3 has no specification yet for the text that names parameters.
        return write_whole(path, lambda target: tree.to_zarr(target, zarr_format=2))
    return write_whole(path, lambda target: tree.to_netcdf(target, engine="h5netcdf"))
