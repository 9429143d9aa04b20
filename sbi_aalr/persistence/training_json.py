"""How an estimator was fitted, as JSON beside it."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from sbi_aalr.files import read_sealed, write_sealed
from sbi_aalr.persistence.run_folder import TRAINING

LOSSES = ("training_loss", "validation_loss")
_LARGEST_COUNT = 2**63 - 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return _is_seed(value) and 0 < cast(int, value) <= _LARGEST_COUNT


def _is_seed(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))


def _are_finite(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_finite, value))


def _is_stack(value: object) -> bool:
    entries = value.get("structures") if isinstance(value, dict) else None
    return isinstance(entries, list) and all(map(_is_member, entries))


def _is_member(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("structure"))
        and _is_finite(value.get("weight", 0.0))
        and all(_are_finite(value.get(name, [])) for name in LOSSES)
    )


# Those that are read again: what each must be.
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "simulator": (_is_text, "text"),
    "num_simulations": (_is_count, "a positive int"),
    "num_samples": (_is_count, "a positive int"),
    "seed": (_is_seed, "an int of at least 0"),
    "fit_seconds": (_is_finite, "a finite number"),
    "training_loss": (_are_finite, "a list of finite numbers"),
    "validation_loss": (_are_finite, "a list of finite numbers"),
    "stack": (_is_stack, "what was stacked"),
}


def write_training(folder: Path, training: Mapping[str, Any]) -> Path:
    """Write what is to be known of a fit: simulator, budget, seed, losses.

    Args:
        folder: Folder of the run.
        training: Names and values that JSON can hold.
    """
    return write_sealed(folder / TRAINING, training, indent=None)


def read_training(folder: Path) -> dict[str, Any]:
    """Read what `write_training` wrote; nothing if it is not there.

    Raises:
        ValueError: If the file is damaged, or a value is not what it must be.
    """
    path = folder / TRAINING
    if not path.exists() and not path.is_symlink():
        return {}
    try:
        training = read_sealed(path, must_be_finite=False)
    except OSError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    for name, (is_right, rule) in _RULES.items():
        if name in training and not is_right(training[name]):
            raise ValueError(
                f"{path} is damaged: `{name}` must be {rule}, got "
                f"{training[name]!r:.60}."
            )
    return training
