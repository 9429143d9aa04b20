"""What a user may set about checkpoints."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sbi_aalr.checks import check_bool, check_positive_float
from sbi_aalr.files import check_path

# Seconds from one checkpoint to the next.
SECONDS_BETWEEN = 60.0


@dataclass(frozen=True)
class Checkpoints:
    """What a user may set about checkpoints.

    Args:
        folder: Where to keep them; None for nowhere.
        every: Seconds from one to the next.
        resumes: Whether to go on from one that is there.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If the seconds are not positive, or the path is empty.
    """

    folder: str | os.PathLike[str] | None = None
    every: float = SECONDS_BETWEEN
    resumes: bool = True

    def __post_init__(self) -> None:
        if self.folder is not None:
            check_path("checkpoint", self.folder)
        object.__setattr__(
            self, "every", check_positive_float("checkpoint_every", self.every)
        )
        check_bool("resume", self.resumes)


def check_same_call(
    begun: Mapping[str, Any], now: Mapping[str, Any], settings: Checkpoints
) -> None:
    """Raise if a checkpoint is of another call.

    Args:
        begun: What identifies the call that it is of.
        now: The same of this call.
        settings: What the user set.

    Raises:
        ValueError: If they differ.
    """
    for name in {**begun, **now}:
        before, after = begun.get(name), now.get(name)
        if before != after:
            raise ValueError(
                "`checkpoint` must be gone on from by the call that began it, but "
                f"`{name}` was {before!r:.60} and is {after!r:.60}. Choose another "
                "folder, or pass `resume=False` to begin anew in "
                f"{settings.folder}."
            )
