"""Files, and folders that are stores, that appear whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


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
