"""What a name stands for on the command line: simulator, prior, network, task.

A run's folder may name a simulator too, but only one that this package knows.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn
from torch.distributions import Distribution

from sbi_aalr.checks import check_prior
from sbi_aalr.simulators import SLCP

# Those whose name `training.json` may give.
_KNOWN: dict[str, Callable[[], Any]] = {"slcp": SLCP}
# What things are called in messages.
_USUAL = {
    "simulator": "simulate",
    "prior": "prior",
    "classifier": "build",
    "embedding_net": "net",
    "tasks": "Task",
}


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
    found = _import("simulator", path)
    simulator = _describe(found)
    if not callable(simulator.simulate):
        raise TypeError(
            "`simulator` must be callable or have a method `simulate`, got "
            f"{type(found).__name__}."
        )
    return simulator


class CalledByName:
    """A simulator that goes by the name that it has on the command line.

    Args:
        simulate: The simulator.
        path: `package.module:name`.
    """

    def __init__(self, simulate: Callable[..., Any], path: str) -> None:
        self._simulate = simulate
        self.__module__, _, self.__qualname__ = path.partition(":")

    def __call__(self, theta: Any) -> Any:
        """Simulate, whatever the simulator takes."""
        return self._simulate(theta)


def import_prior(path: str) -> Distribution:
    """Import `package.module:name`, from the current folder too.

    Args:
        path: Module and name of a distribution, or of an object or a class with one in
            `prior`, such as `sbi_aalr.simulators:TwoMoons`.

    Raises:
        ImportError: If the module cannot be imported.
        TypeError: If what the name stands for is no distribution.
        ValueError: If the path has another form, or the module no such name, or the
            distribution is no prior.
    """
    found = _import("prior", path)
    is_prior = isinstance(found, Distribution)
    return check_prior("prior", found if is_prior else getattr(found, "prior", found))


def import_classifier(path: str) -> Callable[..., Any]:
    """Import `package.module:name`, from the current folder too.

    Args:
        path: Module and name of a builder, `(theta, x) -> RatioEstimator`.

    Raises:
        ImportError: If the module cannot be imported.
        TypeError: If what the name stands for cannot be called.
        ValueError: If the path has another form, or the module no such name.
    """
    found = _import("classifier", path)
    if not callable(found):
        raise TypeError(
            "`classifier` must be a callable (theta, x) -> RatioEstimator, got "
            f"{type(found).__name__}."
        )
    return found


def import_embedding_net(path: str) -> nn.Module:
    """Import `package.module:name`, from the current folder too.

    Args:
        path: Module and name of a torch module, or of a class or a function without
            arguments that gives one.

    Raises:
        ImportError: If the module cannot be imported.
        TypeError: If what the name stands for is no torch module.
        ValueError: If the path has another form, or the module no such name.
    """
    found = _import("embedding_net", path)
    if callable(found) and not isinstance(found, nn.Module):
        found = _make("embedding_net", path, found)
    if not isinstance(found, nn.Module):
        raise TypeError(
            "`embedding_net` must be a torch module, or a function that gives one, got "
            f"{type(found).__name__}."
        )
    return found


def import_parts(
    prior: str | None, classifier: str | None, embedding_net: str | None
) -> dict[str, Any]:
    """Import what a folder may not hold of a posterior, for `MHPosterior.load`.

    Args:
        prior: For `import_prior`, or None.
        classifier: For `import_classifier`, or None.
        embedding_net: For `import_embedding_net`, or None.

    Returns:
        Arguments of `load`, None where there was nothing to import.
    """
    given: dict[str, tuple[str | None, Callable[[str], Any]]] = {
        "prior": (prior, import_prior),
        "classifier": (classifier, import_classifier),
        "embedding_net_x": (embedding_net, import_embedding_net),
    }
    return {
        name: None if path is None else load(path)
        for name, (path, load) in given.items()
    }


def import_task(path: str) -> Any:
    """Import `package.module:name`, from the current folder too.

    Args:
        path: Module and name of an object or a class with a `prior` and a method
            `simulate`, and `sample_posterior` where there are exact draws.

    Raises:
        ImportError: If the module cannot be imported.
        ValueError: If the path has another form, or the module no such name.
    """
    return _import("tasks", path)


def _import(option: str, path: str) -> Any:
    """What `package.module:name` stands for; of a class, an object."""
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ValueError(
            f"`{option}` must be module:name, such as my_model:{_USUAL[option]}, got "
            f"{path!r}."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ImportError(
            f"`{option}` must name a module that can be imported, but {module_name} "
            f"raised {type(error).__name__}: {error}."
        ) from error
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(
            f"`{option}` must name something in {module_name}, got {name}."
        )
    return _make(option, path, found) if isinstance(found, type) else found


def _make(option: str, path: str, build: Callable[[], Any]) -> Any:
    """What a class or a function gives."""
    try:
        return build()
    except (Exception, SystemExit) as error:
        name = path.partition(":")[2]
        raise TypeError(
            f"`{option}` must name an object, or what makes one without arguments, but "
            f"{name}() raised {type(error).__name__}: {error}."
        ) from error


def _describe(found: Any) -> NamedSimulator:
    return NamedSimulator(
        getattr(found, "simulate", found), getattr(found, "sample_posterior", None)
    )
