"""The two files of a saved posterior, which change together.

The settings name the hash of their weights. New weights lie beside the old ones, named
by that hash, until the settings have changed; whoever reads takes those that fit. So a
process that is killed between the two leaves either the earlier posterior or the new
one, and what it leaves besides goes with the next save.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sbi_aalr.files import (
    hash_tensors,
    read_headed_tensors,
    read_sealed,
    write_sealed,
    write_tensors,
)
from sbi_aalr.persistence.hashed_files import DIGITS, list_hashed, locate
from sbi_aalr.persistence.run_folder import POSTERIOR_SETTINGS, POSTERIOR_WEIGHTS

_FORMAT = "format"


def write_pair(
    folder: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write settings and weights, so that there is a posterior at any time.

    Args:
        folder: Where to; there already.
        document: The settings, without the hash of the weights.
        tensors: The weights.

    Raises:
        OSError: If a file cannot be written; the earlier posterior is as it was then.
    """
    digest = hash_tensors(tensors)
    _finish_killed(folder)
    usual = folder / POSTERIOR_WEIGHTS
    beside = locate(usual, digest)
    # The number of the format keeps them from those that another version left there.
    head = {_FORMAT: str(document[_FORMAT])}
    write_tensors(beside, tensors, head, like=usual)
    try:
        write_sealed(folder / POSTERIOR_SETTINGS, {**document, "weights": digest})
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _put_in_place(beside, usual)


def find_weights(folder: Path, digest: object) -> Path:
    """The file of the weights with this hash, whether or not its `save` was killed.

    Args:
        folder: Where the settings lie.
        digest: The hash that they name; None in the first format.
    """
    usual = folder / POSTERIOR_WEIGHTS
    if isinstance(digest, str) and digest[:DIGITS].isalnum():
        beside = locate(usual, digest)
        if beside.is_file():
            return beside
    return usual


def _put_in_place(beside: Path, usual: Path) -> None:
    os.replace(beside, usual)


def _finish_killed(folder: Path) -> None:
    """Put the weights of a killed save in their place, or remove what nobody names."""
    try:
        digest = str(read_sealed(folder / POSTERIOR_SETTINGS).get("weights"))
    except (OSError, ValueError):
        digest = ""
    usual = folder / POSTERIOR_WEIGHTS
    for path in list_hashed(usual):
        # What another program named so stays.
        with contextlib.suppress(ValueError):
            if _FORMAT not in read_headed_tensors(path)[1]:
                continue
            if path == locate(usual, digest):
                os.replace(path, usual)
            else:
                path.unlink()
