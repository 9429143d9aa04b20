"""Write files, and folders that are stores, whole or not at all.

What is written goes to a new file beside the target first, with a name that cannot be
guessed and that follows no link, and takes the target's place when it is on disk. Its
writer holds a lock on it, which ends with the process: what a killed one left behind is
known by that, and removed by the next that writes into the same folder.
"""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: leftovers stay
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".sbi_aalr-", ".tmp"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | getattr(os, "O_BINARY", 0)


def write_bytes(
    path: Path, content: bytes | memoryview, like: Path | None = None
) -> Path:
    """Write a file, whole or not at all.

    Whatever stops the writing, Ctrl-C and a full disk included, what was there before
    stays as it was. A file that is replaced keeps its owner and its permissions.

    Args:
        path: The file; the folder that it lies in must exist.
        content: All of its content.
        like: Another file that it will take the place of, whose owner and permissions
            it gets.

    Returns:
        `path`.

    Raises:
        OSError: If it cannot be written; the message says what and why.
    """
    with _say_what(like or path):
        remove_leftovers(path.parent)
        temporary, handle = _create(path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                _copy_permissions(like or path, handle)
                file.write(content)
                file.flush()
                os.fsync(handle)
                if fcntl is None:
                    # Windows does not rename what is open.
                    file.close()
                # Still locked, so that nobody takes it for a leftover.
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


def write_folder(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Write a folder that is a store, whole or not at all.

    Args:
        path: The folder, which must not exist, in one that does.
        write_to: Writes all of it to the path it is given, where there is nothing yet.

    Returns:
        `path`.

    Raises:
        OSError: If it cannot be written; the message says what and why.
    """
    with _say_what(path), _make_temporary(path.parent) as temporary:
        write_to(temporary / path.name)
        os.replace(temporary / path.name, path)
    return path


def write_together(
    folder: Path,
    write_to: Callable[[Path], object],
    on_written: Callable[[], object] = lambda: None,
) -> None:
    """Write files into a folder, where all are on disk before the first appears.

    Args:
        folder: The folder, which must exist.
        write_to: Writes the files to the empty folder that it is given.
        on_written: Called when they are on disk, to make room for them.

    Raises:
        OSError: If one cannot be written; the message says what and why, and the
            folder is as it was.
    """
    with _say_what(folder), _make_temporary(folder) as temporary:
        write_to(temporary)
        on_written()
        # In the order in which they were written.
        for path in sorted(temporary.iterdir(), key=_find_age):
            os.replace(path, folder / path.name)


@contextlib.contextmanager
def _make_temporary(folder: Path) -> Iterator[Path]:
    """Make an empty folder in a folder, held while it is used, and remove it."""
    remove_leftovers(folder)
    temporary = _name_temporary(folder)
    temporary.mkdir()
    try:
        with _hold(temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _find_age(path: Path) -> int:
    return path.stat().st_mtime_ns


def try_to_write(folder: Path) -> None:
    """Make a file in a folder, and remove it again, to see that it can be done.

    Raises:
        OSError: If it cannot; the message says why.
    """
    with _say_what(folder):
        remove_leftovers(folder)
        path, handle = _create(folder)
        path.unlink()
        os.close(handle)


def lock(handle: int, waits: bool = False) -> bool:
    """Lock an open file or folder until it is closed or its process ends.

    Args:
        handle: Of the open file or folder.
        waits: Whether to wait until others have finished with it.

    Returns:
        Whether it is locked; not every system can.

    Raises:
        BlockingIOError: If another process has the lock, and it is not waited for.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes of this user left half-written in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_leftover(folder / entry.name)


def _remove_leftover(path: Path) -> None:
    with _hold(path) as (handle, is_locked):
        if not is_locked or os.fstat(handle).st_uid != os.geteuid():
            return
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            shutil.rmtree(path)
        elif stat.S_ISREG(kind):
            path.unlink()


@contextlib.contextmanager
def _hold(path: Path) -> Iterator[tuple[int, bool]]:
    """Open and lock what is there; never a link, and without waiting for a pipe."""
    if fcntl is None:
        # Nor does Windows open folders.
        yield -1, False
        return
    flags = _NO_FOLLOW | os.O_NONBLOCK
    try:
        # Some systems lock only what can be written.
        handle = os.open(path, os.O_RDWR | flags)
    except IsADirectoryError:
        handle = os.open(path, os.O_RDONLY | flags)
    try:
        yield handle, lock(handle)
    finally:
        os.close(handle)


def _name_temporary(folder: Path) -> Path:
    return folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def _create(folder: Path) -> tuple[Path, int]:
    """Make and lock a new file, with the permissions that the user's umask gives."""
    while True:
        path = _name_temporary(folder)
        handle = os.open(path, _CREATE, 0o666)
        with contextlib.suppress(BlockingIOError):
            lock(handle)
            # Another process may have taken it for a leftover before it was locked.
            if os.fstat(handle).st_nlink:
                return path, handle
        os.close(handle)


def _copy_permissions(path: Path, handle: int) -> None:
    """Give an open file the owner and permissions of the one that it will replace."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode) and fcntl is not None:
        with contextlib.suppress(PermissionError):
            os.chown(handle, found.st_uid, found.st_gid)
        os.chmod(handle, stat.S_IMODE(found.st_mode))


@contextlib.contextmanager
def _say_what(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Of what is written together, a part has said so before.
        reason: BaseException = error
        while isinstance(reason.__cause__, OSError):
            reason = reason.__cause__
        reason = getattr(reason, "strerror", None) or reason
        message = f"{path} could not be written: {reason}. "
        message += "Nothing is left half-written."
        raise OSError(error.errno or 0, message) from error
