"""A checkpoint on disk: one file that changes, and pieces that are written once.

The file holds what changes at every step, such as weights, and names the pieces, which
hold what was simulated. A piece is named by the hash of its content, and is there
before the file that names it; what no file names any more goes when the next one is
written. So whenever a process is killed, there is the last checkpoint or this one.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sbi_aalr._version import __version__
from sbi_aalr.files import (
    check_output_folder,
    check_replaceable,
    hash_tensors,
    lock,
    read_headed_tensors,
    remove_leftovers,
    write_tensors,
)
from sbi_aalr.persistence.hashed_files import locate, read_hashed, remove_unnamed
from sbi_aalr.persistence.run_folder import CHECKPOINT
from sbi_aalr.training.parcel import Parcel

_FORMAT = "1"
_FACTS, _SEAL = "facts", "checkpoint_sha256"
_PIECES = "pieces"
_OTHER_HASH = (
    "is damaged: its content does not fit its hash. Pass `resume=False` to begin anew."
)


class CheckpointFiles:
    """The checkpoint of one call, in a folder that may hold other files too.

    Args:
        folder: The folder, which is made.

    Raises:
        NotADirectoryError: If it is something else already.
        OSError: If it cannot be written to.
        ValueError: If it holds a file of that name that is no checkpoint.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = check_output_folder("checkpoint", folder)
        check_replaceable(
            "checkpoint",
            self.folder,
            [CHECKPOINT],
            lambda folder: _is_ours(folder / CHECKPOINT),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pieces: list[str] = []

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the folder to oneself.

        Raises:
            BlockingIOError: If another process writes checkpoints there.
        """
        try:
            handle = os.open(self.folder, os.O_RDONLY)
        except OSError:
            # Windows does not open folders.
            yield
            return
        try:
            try:
                lock(handle)
            except BlockingIOError as error:
                raise BlockingIOError(
                    error.errno,
                    f"`checkpoint` must be a folder that nobody else trains in, but "
                    f"another process does in {self.folder}. Wait for it, or choose "
                    "another folder",
                ) from error
            yield
        finally:
            os.close(handle)

    def read(self) -> tuple[Parcel, list[dict[str, Tensor]]] | None:
        """Read what was written last: the parcel and the pieces; None if nothing was.

        Raises:
            ValueError: If it is damaged, or of another version.
        """
        remove_leftovers(self.folder)
        path = self.folder / CHECKPOINT
        if not os.path.lexists(path):
            return None
        tensors, head = read_headed_tensors(path)
        if head.get("format") != _FORMAT:
            raise ValueError(
                f"{path} must have format {_FORMAT}, got {head.get('format')!r:.60}. "
                "It was written by another version. Pass `resume=False` to begin anew."
            )
        if head.get(_SEAL) != hash_tensors(tensors, head.get(_FACTS, "")):
            raise ValueError(f"{path} {_OTHER_HASH}")
        facts = json.loads(head[_FACTS])
        self._pieces = facts.pop(_PIECES)
        pieces = [read_hashed(path, name, _OTHER_HASH) for name in self._pieces]
        return Parcel(tensors, facts), pieces

    def add_piece(self, tensors: Mapping[str, Tensor]) -> None:
        """Write a piece, which the next `write` names."""
        digest = hash_tensors(tensors)
        path = locate(self.folder / CHECKPOINT, digest)
        if not path.exists():
            write_tensors(path, tensors, {"format": _FORMAT})
        self._pieces.append(digest)

    def write(self, parcel: Parcel) -> None:
        """Write a checkpoint in the place of the last one.

        Raises:
            OSError: If it cannot be written; the last one is as it was then.
        """
        text = json.dumps({**parcel.facts, _PIECES: self._pieces})
        head = {
            "format": _FORMAT,
            "sbi_aalr": __version__,
            _FACTS: text,
            _SEAL: hash_tensors(parcel.tensors, text),
        }
        write_tensors(self.folder / CHECKPOINT, parcel.tensors, head)
        remove_unnamed(self.folder / CHECKPOINT, self._pieces, _is_ours)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint and its pieces from a folder, where there is one."""
    path = folder / CHECKPOINT
    if _is_ours(path):
        path.unlink()
        remove_unnamed(path, [], _is_ours)


def _is_ours(path: Path) -> bool:
    try:
        head: Mapping[str, Any] = read_headed_tensors(path)[1]
    except (OSError, ValueError):
        return False
    return "format" in head
