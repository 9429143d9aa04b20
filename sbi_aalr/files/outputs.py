"""One rule for whatever is written: nothing is replaced that we did not make.

All of it is checked before any work is done, by trying.
"""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from sbi_aalr.files.whole import try_to_write

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_path(name: str, path: object) -> Path:
    """Return a path, or raise if it is none, or empty."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"`{name}` must be a path, got {path!r} of type {type(path).__name__}."
        )
    text = os.fspath(path)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError(f"`{name}` must be a path that is not empty, got {path!r}.")
    return Path(text)


def check_output_file(
    name: str,
    path: object,
    endings: tuple[str, ...],
    is_ours: Callable[[Path], bool] = lambda path: False,
) -> Path:
    """Return the path of a file that can be written, or raise.

    Args:
        name: Name of the argument, for the message.
        path: What was given.
        endings: What it may end in, the usual one first.
        is_ours: Says of a file that is there whether we wrote it and may replace it.

    Raises:
        IsADirectoryError: If it is a folder.
        OSError: If it cannot be written.
        TypeError: If it is no path.
        ValueError: If it is empty, ends otherwise, or is something else already.
    """
    file = check_path(name, path)
    if file.is_dir() and file.suffix not in endings:
        raise IsADirectoryError(f"`{name}` must be a file, but {file} is a folder.")
    if file.suffix not in endings:
        raise ValueError(
            f"`{name}` must end in {' or '.join(endings)}, got {str(path)!r}."
        )
    kind = _find_kind(file)
    if kind in _KINDS:
        raise ValueError(f"`{name}` must be a file, but {file} is {_KINDS[kind]}.")
    if kind and not (kind == stat.S_IFREG and is_ours(file)):
        raise ValueError(
            f"`{name}` must not exist yet, but {file} does. Choose another name, or "
            "move it away."
        )
    _try_nearest(name, file.parent)
    return file


def check_output_folder(name: str, path: object) -> Path:
    """Return the path of a folder that can be written to, or made, or raise.

    Args:
        name: Name of the argument, for the message.
        path: What was given.

    Raises:
        NotADirectoryError: If it is something else already.
        OSError: If it cannot be written to.
        TypeError: If it is no path.
        ValueError: If it is empty.
    """
    folder = check_path(name, path)
    _try_nearest(name, folder)
    return folder


def check_replaceable(
    name: str, folder: Path, files: Iterable[str], is_ours: Callable[[Path], bool]
) -> None:
    """Raise if writing files into a folder would replace what we did not make.

    Args:
        name: Name of the argument, for the message.
        folder: The folder.
        files: The names that would be written.
        is_ours: Says whether what of them is in the folder is ours.

    Raises:
        ValueError: If it is not.
    """
    found = [file for file in files if os.path.lexists(folder / file)]
    if found and not is_ours(folder):
        raise ValueError(
            f"`{name}` must be a folder where nothing is replaced but an earlier "
            f"result of the same kind, but {folder / found[0]} is there and is none. "
            "Choose another folder, or move it away."
        )


def _find_kind(path: Path) -> int:
    """The kind of what is there, links not followed, or 0."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _try_nearest(name: str, folder: Path) -> None:
    """Try to write to a folder, or where it would have to be made."""
    nearest = Path(os.path.abspath(folder))
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        kind = _KINDS.get(_find_kind(nearest), "a file")
        raise NotADirectoryError(f"`{name}` must be a folder, but {nearest} is {kind}.")
    try:
        try_to_write(nearest)
    except OSError as error:
        raise OSError(
            error.errno,
            f"`{name}` must lie where files can be written: {error.strerror}",
        ) from error
