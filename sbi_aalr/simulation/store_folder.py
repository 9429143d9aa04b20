"""The folder of a store of simulations: made whole, and known by its root."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from sbi_aalr._version import __version__
from sbi_aalr.files import check_output_folder, write_folder
from sbi_aalr.simulation.store_marks import GROUP, read_attributes, write_attributes

MARKS = "marks"
_KIND, _FORMAT = "simulations", 1
_LIBRARIES = ("sbi", "torch", "numpy", "zarr")


def open_folder(path: Path) -> dict[str, str]:
    """Make an empty store where there is none.

    Args:
        path: The folder.

    Returns:
        Versions of what made the store, by name.

    Raises:
        OSError: If it cannot be written to.
        ValueError: If it is something else, damaged, or of another format.
    """
    if not (path / GROUP).is_file():
        _create(path)
    made = read_attributes(path / GROUP)
    if made.get("kind") != _KIND or made.get("format") != _FORMAT:
        raise ValueError(
            f"`path` must be a store of simulations in format {_FORMAT}, got "
            f"{made.get('kind')!r:.60} in format {made.get('format')!r:.60}."
        )
    versions: dict[str, str] = made["versions"]
    return versions


def read_facts(path: Path) -> dict[str, Any]:
    """What was noted of a store, by name."""
    facts: dict[str, Any] = read_attributes(path / MARKS / GROUP)["facts"]
    return facts


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Note something of a store, in the place of what was noted before."""
    write_attributes(path / MARKS / GROUP, {"facts": facts})


def _create(path: Path) -> None:
    """Make an empty store, unless another process just does."""
    check_output_folder("path", path)
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(
            f"`path` must be a store of simulations or not exist yet, but {path} holds "
            "something else. Choose another name."
        )
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    versions = {"python": platform.python_version(), "sbi_aalr": __version__} | versions
    made = {"kind": _KIND, "format": _FORMAT, "versions": versions}

    def write_to(folder: Path) -> None:
        (folder / MARKS).mkdir(parents=True)
        write_attributes(folder / GROUP, made)
        write_facts(folder, {})

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_folder(path, write_to)
    except OSError:
        if not (path / GROUP).is_file():
            raise
