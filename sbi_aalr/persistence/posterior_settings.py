"""The settings of a saved posterior: what is in `posterior.json`, and its checks."""

from pathlib import Path
from typing import Any

from sbi_aalr._version import __version__
from sbi_aalr.checks import check_parameter_names
from sbi_aalr.files import read_sealed
from sbi_aalr.sampling.settings import Settings

FORMAT = 2
# Above this, JSON is not read; so many times longer is it with a line for each number.
MOST_BYTES, INDENTED = 2**21, 4
# Of an ensemble only, and of a network with an embedding net of the user's inside.
MEMBERS, EMBEDDED = "members", "embedded"
# Where parameters were given names.
NAMES = "parameter_names"
_LARGEST_COUNT = 2**63 - 1
_CONTENT: dict[str, Any] = {
    "format": int,
    "sbi_aalr": str,
    "classifier": str | None,
    "classifier_settings": dict | None,
    "theta_shape": list,
    "x_shape": list,
    "prior": dict | None,
    "parameters": dict,
}
_SINCE_FORMAT_2: dict[str, Any] = {"cuts": list, "weights": str}


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings, and make sure that they could be those of a posterior.

    Args:
        path: The file.

    Raises:
        ValueError: If it is damaged or of another format.
    """
    try:
        document = read_sealed(path, MOST_BYTES)
    except OSError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    found = document.get("format")
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise ValueError(
            f"{path} must have format {FORMAT} or an earlier one, got {found!r:.60}. "
            f"It was written by sbi_aalr {document.get('sbi_aalr')!r:.60}; this is "
            f"{__version__}."
        )
    content = _CONTENT | (_SINCE_FORMAT_2 if found > 1 else {})
    for name, kind in content.items():
        if not isinstance(document.get(name, ...), kind):
            raise ValueError(f"{path} is damaged: `{name}` is missing or wrong.")
    if unknown := document.keys() - content.keys() - {MEMBERS, NAMES, EMBEDDED}:
        raise ValueError(f"{path} is damaged: {sorted(unknown)!r:.60} is unknown.")
    _check_parameters(path, document["parameters"])
    _check_names(path, document)
    return document


def _check_parameters(path: Path, parameters: dict[str, Any]) -> None:
    """Raise if the settings could not be those of a posterior."""
    if "kernel" not in parameters:
        raise ValueError(f"{path} is damaged: `kernel` is missing.")
    try:
        unnamed = {"kernel": "auto"} if parameters["kernel"] is None else {}
        Settings(**{**parameters, **unnamed})
        for name, value in parameters.items():
            if isinstance(value, int) and value > _LARGEST_COUNT:
                raise ValueError(f"`{name}` is too large.")
    except Exception as error:
        raise ValueError(f"{path} is damaged: {shorten(error)}") from error


def _check_names(path: Path, document: dict[str, Any]) -> None:
    """Raise if the names could not be those of the parameters."""
    names, shape = document.get(NAMES), document["theta_shape"]
    if names is None and NAMES not in document:
        return
    try:
        if not isinstance(names, list) or len(shape) != 1:
            raise ValueError(f"`{NAMES}` is wrong.")
        check_parameter_names(names, shape[0])
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {shorten(error)}") from error


def shorten(error: Exception) -> str:
    """What an error says in one line; those of torch have more."""
    if isinstance(error, KeyError):
        return f"{error} is missing."
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
