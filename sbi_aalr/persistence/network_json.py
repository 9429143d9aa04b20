"""Write down what a network is, and build one like it again for its weights.

A file can ask for any network. Building ends as soon as there is more of it than there
are weights beside the file.
"""

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.training.classifiers import NamedBuilder, resolve_classifier

_ENSEMBLE = "ensemble"
_NETWORK = {"classifier", "classifier_settings", "members"}
# Data of a network of your own may have more numbers than its weights.
_MOST_NUMBERS = 2**24
_MOST_DIMS = 16
# Levels of ensembles of ensembles.
_MOST_NESTED = 8
# Some networks make weights in several steps, such as those with a normed weight.
_DETOUR = 4


def encode_network(estimator: RatioEstimator) -> dict[str, Any]:
    """What JSON can hold of a network: its name and settings, or those of its members.

    Args:
        estimator: The ratio estimator.

    Returns:
        `classifier`, a name or None where there is no name; `classifier_settings`; and
        `members`, a list of the same for an ensemble.
    """
    members = getattr(estimator, "members", None)
    if members is not None:
        encoded = [encode_network(member) for member in members]
        is_known = all(member["classifier"] is not None for member in encoded)
        return {
            "classifier": _ENSEMBLE if is_known else None,
            "classifier_settings": None,
            "members": encoded,
        }
    return {
        "classifier": getattr(estimator, "classifier_name", None),
        "classifier_settings": getattr(estimator, "classifier_settings", None),
    }


def rebuild_network(
    document: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    theta_shape: list[int],
    x_shape: list[int],
    classifier: object = None,
) -> RatioEstimator:
    """Build a network anew and give it its weights.

    Args:
        document: What `encode_network` returned.
        weights: What its `state_dict` returned.
        theta_shape: Shape of one parameter set.
        x_shape: Shape of one observation.
        classifier: What the user gives in place of the name in the document.

    Returns:
        The ratio estimator.

    Raises:
        ValueError: If the weights are of another network.
    """
    num_numbers = sum(tensor.numel() for tensor in weights.values())
    for name, shape in (("theta_shape", theta_shape), ("x_shape", x_shape)):
        _check_shape(name, shape, max(num_numbers, _MOST_NUMBERS * bool(classifier)))
    with torch.random.fork_rng(devices=[]), _build_in_float32(), _stop_above(weights):
        # Only their shape matters.
        rows = torch.randn(8, *theta_shape), torch.randn(8, *x_shape)
        estimator = (
            _build(document, *rows)
            if classifier is None or classifier == document["classifier"]
            else resolve_classifier(classifier)(*rows)
        )
    _check_weights(weights, estimator.state_dict())
    # Not strictly: a network takes over which of some buffers there are.
    estimator.load_state_dict(dict(weights), strict=False)
    if extra := weights.keys() - estimator.state_dict().keys():
        raise ValueError(f"`{min(extra)}` is saved, but no part of the network.")
    return estimator.eval()


def _build(
    document: Mapping[str, Any], theta: Tensor, x: Tensor, depth: int = 0
) -> RatioEstimator:
    """Build what a document names."""
    if depth > _MOST_NESTED:
        raise ValueError(f"`members` has more than {_MOST_NESTED} levels.")
    if not document.keys() <= _NETWORK:
        raise ValueError(f"`{', '.join(document.keys() - _NETWORK)}` is unknown.")
    settings = document["classifier_settings"]
    if document["classifier"] == _ENSEMBLE:
        members = [
            _build(member, theta, x, depth + 1) for member in document["members"]
        ]
        return average_log_ratios(members)
    if settings is not None:
        _check_settings(settings)
    return NamedBuilder(document["classifier"], settings)(theta, x)


def _check_settings(settings: Any) -> None:
    """Raise if settings of a network are anything but numbers and lists of them."""
    for name, value in settings.items():
        for part in value if isinstance(value, list) else [value]:
            if type(part) not in (int, float):
                raise ValueError(f"`{name}` must be a number, got {part!r:.60}.")


def _check_shape(name: str, shape: list[int], most_numbers: int) -> None:
    are_sizes = all(type(size) is int and size > 0 for size in shape)
    if not (0 < len(shape) <= _MOST_DIMS and are_sizes):
        raise ValueError(f"`{name}` must hold a few positive ints, got {shape!r:.60}.")
    if math.prod(shape) > most_numbers:
        raise ValueError(f"`{name}` is {shape!r:.60}, more than there are weights.")


def _check_weights(weights: Mapping[str, Tensor], built: Mapping[str, Tensor]) -> None:
    """Raise if weights are missing, or of another shape or dtype."""
    for name, wanted in built.items():
        found = _describe(weights.get(name))
        if found != _describe(wanted):
            raise ValueError(f"`{name}` is {found} and should be {_describe(wanted)}.")


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


@contextlib.contextmanager
def _build_in_float32() -> Iterator[None]:
    """Build as in training, whatever the default of the user's program."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@contextlib.contextmanager
def _stop_above(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """End the building of a network that is larger than its weights."""
    most = _DETOUR * sum(tensor.numel() for tensor in weights.values())
    most_parameters = _DETOUR * len(weights)
    builder, num_numbers, num_parameters = threading.get_ident(), 0, 0

    def count(module: object, name: str, parameter: Any) -> None:
        nonlocal num_numbers, num_parameters
        # Torch tells of the networks of all threads.
        if parameter is None or threading.get_ident() != builder:
            return
        num_numbers += parameter.numel()
        num_parameters += 1
        if num_numbers > most or num_parameters > most_parameters:
            raise ValueError("They are fewer than the network has.")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
