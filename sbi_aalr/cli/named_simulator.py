"""The simulator that a name stands for, on the command line or in a run's folder."""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from sbi_aalr.simulators import SLCP

# Those whose name `training.json` may give.
_KNOWN: dict[str, Callable[[], Any]] = {"slcp": SLCP}


class NamedSimulator(NamedTuple):
    """A simulator, with what is known of its posterior.

    Attributes:
        simulate: Any simulator that sbi accepts.
        sample_posterior: Draws from the exact posterior, `(num, x_o, seed=)`; None
            where there is none.
    """

    simulate: Callable[..., Any]
    sample_posterior: Callable[..., Any] | None


def find_known(name: object) -> NamedSimulator | None:
    """Return the simulator that `training.json` names, if this package knows it."""
    return (
        _describe(_KNOWN[name]()) if isinstance(name, str) and name in _KNOWN else None
    )


def import_simulator(path: str) -> NamedSimulator:
    """Import `package.module:name`, from the current folder too.

    Args:
        path: Module and name of a function over theta, or of an object or a class
            with a method `simulate`, such as `sbi_aalr.simulators:TwoMoons`.

    Raises:
        ImportError: If the module cannot be imported.
        TypeError: If what the name stands for is no simulator.
        ValueError: If the path has another form, or the module no such name.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ValueError(
            f"`simulator` must be module:name, such as my_model:simulate, got {path!r}."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ImportError(
            f"`simulator` must name a module that can be imported, but {module_name} "
            f"raised {type(error).__name__}: {error}."
        ) from error
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(
            f"`simulator` must name something in {module_name}, got {name}."
        )
    simulator = _describe(found() if isinstance(found, type) else found)
    if not callable(simulator.simulate):
        raise TypeError(
            "`simulator` must be callable or have a method `simulate`, got "
            f"{type(found).__name__}."
        )
    return simulator


def _describe(found: Any) -> NamedSimulator:
    return NamedSimulator(
        getattr(found, "simulate", found), getattr(found, "sample_posterior", None)
    )
