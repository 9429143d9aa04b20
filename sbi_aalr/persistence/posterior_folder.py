"""Where a posterior may be saved: it replaces another saved posterior, and no more."""

from pathlib import Path

from sbi_aalr.files import (
    check_output_folder,
    check_replaceable,
    read_headed_tensors,
    read_sealed,
)
from sbi_aalr.persistence.run_folder import POSTERIOR_SETTINGS, POSTERIOR_WEIGHTS


def check_posterior_folder(folder: str | Path) -> Path:
    """Return the folder, or raise if a posterior cannot or may not be saved there.

    Raises:
        NotADirectoryError: If it is something else already.
        OSError: If it cannot be written to.
        ValueError: If it holds files of these names that are no saved posterior.
    """
    path = check_output_folder("folder", folder)
    names = POSTERIOR_SETTINGS, POSTERIOR_WEIGHTS
    check_replaceable("folder", path, names, _is_saved)
    return path


def _is_saved(folder: Path) -> bool:
    """Whether a posterior was saved, or half of it by a process that was killed."""
    try:
        if (folder / POSTERIOR_SETTINGS).is_file():
            return "sbi_aalr" in read_sealed(folder / POSTERIOR_SETTINGS)
        return "format" in read_headed_tensors(folder / POSTERIOR_WEIGHTS)[1]
    except (OSError, ValueError):
        return False
