"""Files of tensors beside a main file, each named by the hash of its content.

The main file names them, and is written after them. What it does not name goes then, so
that whenever a process ends, all files of one state or of the other are there.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from sbi_aalr.files import hash_tensors, read_headed_tensors

# Digits of a hash in the name of a file.
DIGITS = 16


def locate(main: Path, digest: str) -> Path:
    """The file of a hash beside a main file."""
    return main.with_name(_name(main, digest[:DIGITS]))


def read_hashed(main: Path, digest: str, complaint: str) -> dict[str, Tensor]:
    """Read tensors that a main file names.

    Args:
        main: The main file.
        digest: Their hash.
        complaint: What there is to say behind the name of a file with another hash.

    Raises:
        ValueError: If the file is missing, damaged or another.
    """
    path = locate(main, digest)
    try:
        tensors, _ = read_headed_tensors(path)
    except OSError as error:
        raise ValueError(f"{path} is missing or damaged: {error}.") from error
    if hash_tensors(tensors) != digest:
        raise ValueError(f"{path} {complaint}")
    return tensors


def remove_unnamed(
    main: Path, digests: Iterable[str], is_ours: Callable[[Path], bool]
) -> None:
    """Remove the files beside a main file that it does not name."""
    known = {locate(main, digest) for digest in digests}
    for path in list_hashed(main):
        if path not in known and is_ours(path):
            path.unlink(missing_ok=True)


def list_hashed(main: Path) -> list[Path]:
    """The files of any hashes beside a main file."""
    return sorted(main.parent.glob(_name(main, "[0-9a-f]" * DIGITS)))


def _name(main: Path, digits: str) -> str:
    return f"{main.stem}-{digits}.safetensors"
