"""The formats that are written, each whole or not at all, and hashes of content."""

import contextlib
import hashlib
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbi_aalr.files.whole import write_bytes, write_folder

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from torch import Tensor

_DPI = 150
_SEAL = "sha256"
# The first format of our JSON files that always has a hash.
_SEALED_SINCE = 2
_TAIL = b"\nsbi_aalr sha256 "


def write_text(path: Path, text: str) -> Path:
    """Write text in UTF-8, whole or not at all."""
    return write_bytes(path, text.encode())


def write_json(path: Path, document: Any, indent: int | None = 2) -> Path:
    """Write plain data as JSON, whole or not at all."""
    return write_text(path, json.dumps(document, indent=indent) + "\n")


def write_sealed(
    path: Path, document: Mapping[str, Any], indent: int | None = 2
) -> Path:
    """Write names and values as JSON, with a hash of them for `read_sealed`."""
    return write_json(path, {**document, _SEAL: hash_document(document)}, indent)


def read_sealed(
    path: Path, most_bytes: int = 2**26, *, must_be_finite: bool = True
) -> dict[str, Any]:
    """Read what `write_sealed` wrote, or an earlier version that wrote no hash.

    Args:
        path: The file.
        most_bytes: Size above which it is not even read.
        must_be_finite: Whether NaN and infinity are damage.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, be it by one bit, or holds what we do not write:
            a name twice, NaN or infinity.
    """
    read_number = _read_finite if must_be_finite else float
    _check_kind(path)
    try:
        if path.stat().st_size > most_bytes:
            raise ValueError(f"it has more than {most_bytes:,} bytes")
        document = json.loads(
            path.read_bytes().decode(),
            object_pairs_hook=_read_object,
            parse_constant=read_number,
            parse_float=read_number,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} is damaged: it must hold an object.")
    seal = document.pop(_SEAL, None)
    found = document.get("format")
    if seal is None and isinstance(found, int) and found >= _SEALED_SINCE:
        raise ValueError(f"{path} is damaged: its hash is missing.")
    if seal not in (None, hash_document(document)):
        raise ValueError(f"{path} is damaged: its content does not fit its hash.")
    return document


def _check_kind(path: Path) -> None:
    """Raise if reading would wait for ever, as it does for a pipe."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is damaged: it must be a file.")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return document


def _read_finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def hash_document(document: Mapping[str, Any]) -> str:
    """Hash names and values as JSON holds them, in whatever order."""
    read = json.loads(json.dumps(dict(document)))
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def hash_tensors(tensors: Mapping[str, "Tensor"], *labels: str) -> str:
    """Hash tensors with their names, dtypes and shapes, and text that belongs to them.

    Args:
        tensors: The tensors by name, in whatever order.
        labels: What else to hash.
    """
    import torch

    digest = hashlib.sha256(json.dumps(labels).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), *tensor.shape]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_tensors(
    path: Path,
    tensors: Mapping[str, "Tensor"],
    metadata: Mapping[str, str] | None = None,
    like: Path | None = None,
) -> Path:
    """Write tensors of any device by name as safetensors, with a hash of them.

    Args:
        path: The file.
        tensors: The tensors.
        metadata: Text by name for the head of the file.
        like: Another file whose permissions it gets; see `write_bytes`.
    """
    from safetensors.torch import save

    # Copied, as safetensors refuses views.
    copies = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    head = {_SEAL: hash_tensors(copies), **(metadata or {})}
    return write_bytes(path, save(copies, metadata=head), like)


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """Read what `write_tensors` wrote, or an earlier version that wrote no hash.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, be it by one bit.
    """
    tensors, head = read_headed_tensors(path)
    if head.get(_SEAL) not in (None, hash_tensors(tensors)):
        raise ValueError(f"{path} is damaged: its content does not fit its hash.")
    return tensors


def read_headed_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Read tensors by name, and the text in the head of the file, as they are.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    _check_kind(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, (
                file.metadata() or {}
            )
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def write_figure(path: Path, figure: "Figure") -> Path:
    """Write a matplotlib figure as PNG, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return write_bytes(path, content.getbuffer())


@contextlib.contextmanager
def _without_cluster() -> Iterator[None]:
    """Keep xarray from asking a Dask client, where there is one, for a lock.

    Nobody else has what is in this process's memory, and the cluster does not know it.
    """
    if "dask" not in sys.modules:
        yield
        return
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield


@_without_cluster()
def write_datatree(path: Path, tree: "xr.DataTree") -> Path:
    """Write a DataTree, whole or not at all: as Zarr if it ends so, else as NetCDF.

    A NetCDF file has a hash of its content behind it, which other readers pass over.
    """
    if path.suffix == ".zarr":
        # Version 3 has no specification yet for the text that names parameters.
        return write_folder(path, lambda target: tree.to_zarr(target, zarr_format=2))
    # In memory first: on a full disk HDF5 takes the whole process down.
    content = bytes(tree.to_netcdf(engine="h5netcdf"))
    return write_bytes(path, content + _TAIL + _hash_bytes(content))


@_without_cluster()
def read_datatree(path: Path) -> "xr.DataTree":
    """Read a NetCDF file that `write_datatree` wrote, or another without a hash.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, be it by one bit, or no NetCDF file.
    """
    import xarray as xr

    _check_kind(path)
    # HDF5 reads no further than its content, and a hash may stand behind.
    content, tail, found = path.read_bytes().rpartition(_TAIL)
    if not tail:
        content = found
    # Before HDF5 sees it, which not every damaged file leaves alive.
    elif found != _hash_bytes(content):
        raise ValueError(f"{path} is damaged: its content does not fit its hash.")
    try:
        with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as stored:
            return stored.load()
    # Damage shows in many ways.
    except Exception as error:
        raise ValueError(f"{path} is no NetCDF file of chains: {error}.") from error


def _hash_bytes(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
