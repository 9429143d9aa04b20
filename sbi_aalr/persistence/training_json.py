"""How an estimator was fitted, as JSON beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbi_aalr.files import write_json
from sbi_aalr.persistence.run_folder import TRAINING


def write_training(folder: Path, training: Mapping[str, Any]) -> Path:
    """Write what is to be known of a fit: simulator, budget, seed, losses.

    Args:
        folder: Folder of the run.
        training: Names and values that JSON can hold.
    """
    return write_json(folder / TRAINING, dict(training), indent=None)


def read_training(folder: Path) -> dict[str, Any]:
    """Read what `write_training` wrote; nothing if it is not there.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / TRAINING
    if not path.is_file():
        return {}
    try:
        training = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(training, dict):
        raise ValueError(f"{path} is damaged: it must hold an object.")
    return training
