"""Build a network for the weights that it had.

A file can ask for any network. Building ends as soon as there is more of it than there
are weights beside the file.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from sbi_aalr.networks.builder import float32_by_default
from sbi_aalr.networks.scale import Scale

# Data of a network of your own may have more numbers than its weights.
MOST_NUMBERS = 2**24
_MOST_DIMS = 16
# Some networks make weights in several steps, such as those with a normed weight.
_DETOUR = 4


def build_for_weights(
    build: Callable[[Tensor, Tensor], RatioEstimator],
    weights: Mapping[str, Tensor],
    theta_shape: list[int],
    x_shape: list[int],
    most_numbers: int = 0,
) -> RatioEstimator:
    """Build a network from rows that do not matter, and give it its weights.

    Args:
        build: Builds it from rows of theta and of x.
        weights: What its `state_dict` returned.
        theta_shape: Shape of one parameter set.
        x_shape: Shape of one observation.
        most_numbers: Numbers that a row may have, where there are fewer weights.

    Returns:
        The ratio estimator.

    Raises:
        ValueError: If the weights are of another network.
    """
    num_numbers = sum(tensor.numel() for tensor in weights.values())
    for name, shape in (("theta_shape", theta_shape), ("x_shape", x_shape)):
        _check_shape(name, shape, max(num_numbers, most_numbers))
    with torch.random.fork_rng(devices=[]), float32_by_default(), _stop_above(weights):
        # Only their shape matters.
        estimator = build(torch.randn(8, *theta_shape), torch.randn(8, *x_shape))
    for module in estimator.modules():
        if isinstance(module, Scale):
            module.forget_rows()
    _check_weights(weights, estimator.state_dict())
    # Not strictly: a network takes over which of some buffers there are.
    estimator.load_state_dict(dict(weights), strict=False)
    if extra := weights.keys() - estimator.state_dict().keys():
        raise ValueError(f"`{min(extra)}` is saved, but no part of the network.")
    return estimator.eval()


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
