"""How to make a run and its report again, as code to paste."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

# Settings of a run that are written out, with what they are if left out. Trees keep
# none that is None.
_SETTINGS: dict[str, Any] = {
    "kernel": "auto",
    "num_chains": None,
    "warmup_steps": 200,
    "thin": None,
    "init_strategy": "resample",
    "num_candidates": 10_000,
    "max_rhat": 1.01,
    "min_ess": 400,
    "max_steps": 50_000,
    "max_batch_size": None,
}
_DEFAULTS: dict[str, Any] = {"title": "Posterior", "ci_prob": 0.95}


class Code(str):
    """Text that is code, not a string to quote."""

    __slots__ = ()

    def __repr__(self) -> str:
        """As it is."""
        return str(self)


def list_commands(tree: xr.DataTree, path: str | Path, given: Mapping[str, Any]) -> str:
    """Write the calls that made a run and its report.

    Args:
        tree: The run, with its settings as attributes.
        path: The file of the report.
        given: Arguments of the report, by name; None for those that were not given.

    Returns:
        Code, with what cannot be written out, such as a network, by its usual name.
    """
    attributes, sizes = tree.attrs, tree["posterior"].sizes
    method = "sample_batched" if "observation" in sizes else "sample"
    # The chains may be longer than what was asked for.
    count = attributes.get("num_samples", sizes["chain"] * sizes["draw"])
    sample: dict[str, Any] = {"x": Code("x")}
    if "seed" in attributes:
        sample["seed"] = attributes["seed"]
    if "max_steps" in attributes:
        settings = {name: attributes.get(name) for name in _SETTINGS}
        if attributes.get("is_auto_thin"):
            settings["thin"] = None
        if attributes.get("is_auto_kernel"):
            settings["kernel"] = "auto"
        elif settings["kernel"] == "custom":
            settings["kernel"] = Code("kernel")
        sample |= {k: v for k, v in settings.items() if v != _SETTINGS[k]}
    report = {
        name: value
        for name, value in given.items()
        if value is not None and value != _DEFAULTS.get(name)
    }
    return "\n".join(
        (
            "# with the estimator, x and simulator as they were",
            _write_call(f"posterior.{method}", f"({count},)", sample),
            _write_call("posterior.report", repr(str(path)), report),
        )
    )


def _write_call(name: str, first: str, arguments: Mapping[str, Any]) -> str:
    """A call on one line, or on one line an argument where it is long."""
    words = [first, *(f"{key}={value!r}" for key, value in arguments.items())]
    line = f"{name}({', '.join(words)})"
    if len(line) <= 88:
        return line
    rest = (f"    {word}," for word in words[1:])
    return "\n".join((f"{name}({first},", *rest, ")"))
