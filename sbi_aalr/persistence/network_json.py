"""Write down what a network is, and build one like it again for its weights.

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
from torch.distributions import Distribution
from torch.nn.modules.module import register_module_parameter_registration_hook

from sbi_aalr.networks.builder import float32_by_default
from sbi_aalr.networks.correction import Correction, CorrectionInput
from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.networks.stack import Mended, Offset, Stack
from sbi_aalr.sampling.log_prior import LogPrior, find_transform
from sbi_aalr.training.assemble import is_proposal
from sbi_aalr.training.classifiers import NamedBuilder, resolve_classifier
from sbi_aalr.training.members import DENSITIES, Materials, Member, build_member

_ENSEMBLE, _STACK = "ensemble", "stack"
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
    if isinstance(estimator, Stack):
        return _encode_stack(estimator)
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


def _encode_stack(stack: Stack) -> dict[str, Any]:
    members = list(stack.stacked)
    if stack.proposal is not None and not any(m is stack.proposal for m in members):
        members.append(stack.proposal)
    places = [i for i, member in enumerate(members) if member is stack.proposal]
    encoded = [encode_network(member) for member in members]
    is_known = all(member["classifier"] is not None for member in encoded)
    return {
        "classifier": _STACK if is_known else None,
        "classifier_settings": {
            "num_used": len(stack.stacked),
            "proposal": places[0] if places else -1,
            "has_offset": int(stack.has_offset),
            "has_correction": int(stack.has_correction),
        },
        "members": encoded,
    }


def rebuild_network(
    document: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    theta_shape: list[int],
    x_shape: list[int],
    classifier: object = None,
    prior: Distribution | None = None,
) -> RatioEstimator:
    """Build a network anew and give it its weights.

    Args:
        document: What `encode_network` returned.
        weights: What its `state_dict` returned.
        theta_shape: Shape of one parameter set.
        x_shape: Shape of one observation.
        classifier: What the user gives in place of the name in the document.
        prior: The prior without cuts, which densities need.

    Returns:
        The ratio estimator.

    Raises:
        ValueError: If the weights are of another network.
    """
    most = 0 if classifier is None else _MOST_NUMBERS

    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        if classifier is None or classifier == document["classifier"]:
            return _build(document, theta, x, _find_materials(document, prior))
        return resolve_classifier(classifier)(theta, x)

    return build_for_weights(build, weights, theta_shape, x_shape, most)


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
    _check_weights(weights, estimator.state_dict())
    # Not strictly: a network takes over which of some buffers there are.
    estimator.load_state_dict(dict(weights), strict=False)
    if extra := weights.keys() - estimator.state_dict().keys():
        raise ValueError(f"`{min(extra)}` is saved, but no part of the network.")
    return estimator.eval()


def _build(
    document: Mapping[str, Any],
    theta: Tensor,
    x: Tensor,
    materials: Materials | None,
    depth: int = 0,
) -> RatioEstimator:
    """Build what a document names."""
    if depth > _MOST_NESTED:
        raise ValueError(f"`members` has more than {_MOST_NESTED} levels.")
    if not document.keys() <= _NETWORK:
        raise ValueError(f"`{', '.join(document.keys() - _NETWORK)}` is unknown.")
    settings = document["classifier_settings"]
    if settings is not None:
        _check_settings(settings)
    if document["classifier"] in (_ENSEMBLE, _STACK):
        members = [
            _build(member, theta, x, materials, depth + 1)
            for member in document["members"]
        ]
        if document["classifier"] == _STACK:
            return build_stack(members, settings, theta, x)
        return average_log_ratios(members)
    if document["classifier"] in DENSITIES and materials is not None:
        if materials.theta_rows is not None:
            theta = materials.theta_rows
        member = Member(document["classifier"], dict(settings), None)
        return build_member(member, materials, theta, x)
    return NamedBuilder(document["classifier"], settings)(theta, x)


def build_stack(
    members: list[RatioEstimator],
    settings: Mapping[str, Any],
    theta: Tensor,
    x: Tensor,
) -> Stack:
    """Put members together; those after the first `num_used` only propose.

    Args:
        members: The members, which the stack shares.
        settings: What `encode_network` called `classifier_settings`.
        theta: Rows of parameters, shape `(N, D)`.
        x: Rows of data, shape `(N, *event_shape)`.

    Returns:
        The stack, whose own weights are yet to be loaded.

    Raises:
        ValueError: If the settings do not fit the members.
    """
    num_used, place = settings["num_used"], settings["proposal"]
    if not (0 < num_used <= len(members) and -1 <= place < len(members)):
        raise ValueError(
            f"`num_used` and `proposal` do not fit {len(members)} members."
        )
    weights = torch.zeros(len(members))
    weights[:num_used] = 1.0
    proposal = members[place] if place >= 0 else None
    if proposal is not None and not is_proposal(proposal):
        raise ValueError("`proposal` must be a density of the parameters.")
    source = members[0] if proposal is None else proposal
    net = getattr(source.embedding_net_x, "embedding_net", None)
    offset = Offset(x, net) if settings["has_offset"] else None
    mended = None
    if settings["has_correction"]:
        heads = [member.net for member in members[:num_used]]
        seen = CorrectionInput(theta), CorrectionInput(x, net)
        mended = Mended(*seen, Correction(heads))
    return Stack(members, weights, offset, proposal, mended)


def _find_materials(
    document: Mapping[str, Any], prior: Distribution | None
) -> Materials | None:
    """What densities need to know of the prior; None where there are none."""
    if prior is None or not (
        _has_stack(document) or document["classifier"] in DENSITIES
    ):
        return None
    return Materials(find_transform(prior), LogPrior(prior), None, prior.sample((8,)))


def _has_stack(document: Mapping[str, Any], depth: int = 0) -> bool:
    members = document.get("members") or []
    return document["classifier"] == _STACK or (
        depth < _MOST_NESTED and any(_has_stack(one, depth + 1) for one in members)
    )


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
