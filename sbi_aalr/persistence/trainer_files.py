"""Save a trainer as JSON and safetensors: loading it runs no code from the files.

`trainer.json` says what the trainer is and what it has done. Tensors lie in files
beside it, weights in one, simulations in another, each named by the hash of its
content, which the JSON names too. The JSON is written last, and what it does not name
goes then. So whenever the process ends, there is the earlier trainer or this one.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.files import (
    check_output_folder,
    check_path,
    check_replaceable,
    hash_tensors,
    read_headed_tensors,
    read_sealed,
    write_sealed,
    write_tensors,
)
from sbi_aalr.persistence.hashed_files import (
    DIGITS,
    locate,
    read_hashed,
    remove_unnamed,
)
from sbi_aalr.persistence.run_folder import TRAINER

_FORMAT = 1
_FILES = "files"
# What there is in the JSON, and what it must be.
_CONTENT: dict[str, Any] = {
    "format": int,
    "sbi_aalr": str,
    _FILES: list,
    "prior": dict | None,
    "has_prior": bool,
    "classifier": str | None,
    "classifier_settings": dict | None,
    "loss": dict | None,
    "parameter_names": list | None,
    "base": str | None,
    "has_embedding": bool,
    "exchangeable": bool,
    "summary": dict,
    "rounds": list,
    "num_failures": int,
    "network": dict | None,
    "structures": list | None,
    "cuts": list,
    "is_truncated": bool,
    "theta_shape": list | None,
    "x_shape": list | None,
}


def write_trainer(
    folder: str | os.PathLike[str],
    document: Mapping[str, Any],
    parts: list[dict[str, Tensor]],
) -> Path:
    """Write a trainer into a folder, which is made if needed.

    Args:
        folder: Where to.
        document: What JSON holds of it, by the names above.
        parts: Tensors, those of each file together.

    Returns:
        The folder.

    Raises:
        NotADirectoryError: If it is something else already.
        OSError: If it cannot be written to; an earlier trainer is as it was then.
        ValueError: If it holds files of these names that are no saved trainer.
    """
    path = check_output_folder("folder", folder)
    check_replaceable("folder", path, [TRAINER], _is_saved)
    path.mkdir(parents=True, exist_ok=True)
    digests = []
    for tensors in parts:
        digests.append(hash_tensors(tensors))
        head = {"format": str(_FORMAT), "of": TRAINER}
        write_tensors(locate(path / TRAINER, digests[-1]), tensors, head)
    text = {"format": _FORMAT, "sbi_aalr": __version__, _FILES: digests, **document}
    write_sealed(path / TRAINER, text)
    remove_unnamed(path / TRAINER, digests, _is_part)
    return path


def read_trainer(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_trainer` wrote: the document, and the tensors of all files.

    Raises:
        FileNotFoundError: If the folder holds no saved trainer.
        ValueError: If a file is damaged, of another save, or of another format.
    """
    path = check_path("folder", folder) / TRAINER
    if not os.path.lexists(path):
        raise FileNotFoundError(
            f"`folder` must hold a saved trainer, but {path} is missing."
        )
    try:
        document = read_sealed(path, must_be_finite=False)
    except OSError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if document.get("format") != _FORMAT:
        raise ValueError(
            f"{path} must have format {_FORMAT}, got {document.get('format')!r:.60}. "
            f"It was written by sbi_aalr {document.get('sbi_aalr')!r:.60}; this is "
            f"{__version__}."
        )
    for name, kind in _CONTENT.items():
        if not isinstance(document.get(name, ...), kind):
            raise ValueError(f"{path} is damaged: `{name}` is missing or wrong.")
    if unknown := document.keys() - _CONTENT.keys():
        raise ValueError(f"{path} is damaged: {sorted(unknown)!r:.60} is unknown.")
    tensors: dict[str, Tensor] = {}
    for digest in document[_FILES]:
        tensors |= _read_part(path, digest)
    return document, tensors


def _read_part(path: Path, digest: object) -> dict[str, Tensor]:
    if not isinstance(digest, str) or not digest[:DIGITS].isalnum():
        raise ValueError(f"{path} is damaged: {digest!r:.60} is no hash.")
    return read_hashed(
        path,
        digest,
        f"is damaged, or of another save than {path.name}: its content is not what is "
        "noted there. Save the trainer again.",
    )


def _is_saved(folder: Path) -> bool:
    try:
        return _FILES in read_sealed(folder / TRAINER, must_be_finite=False)
    except (OSError, ValueError):
        return False


def _is_part(file: Path) -> bool:
    try:
        return read_headed_tensors(file)[1].get("of") == TRAINER
    except (OSError, ValueError):
        return False
