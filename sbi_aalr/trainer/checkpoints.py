"""What a user may set about checkpoints."""

import os
from dataclasses import dataclass

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
        check_positive_float("checkpoint_every", self.every)
        check_bool("resume", self.resumes)
