"""Write down what a network is, and build one like it again for its weights."""

from collections.abc import Mapping
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.distributions import Distribution

from sbi_aalr.networks.correction import Correction, CorrectionInput
from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.networks.given_density import GIVEN_DENSITY
from sbi_aalr.networks.stack import Mended, Offset, Stack
from sbi_aalr.persistence.network_weights import MOST_NUMBERS, build_for_weights
from sbi_aalr.persistence.posterior_settings import EMBEDDED
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform
from sbi_aalr.training.assemble import is_proposal
from sbi_aalr.training.bases import wrap_base
from sbi_aalr.training.classifiers import NamedBuilder, resolve_classifier
from sbi_aalr.training.members import DENSITIES, Materials, Member, build_member

_ENSEMBLE, _STACK = "ensemble", "stack"
_NETWORK = {"classifier", "classifier_settings", "members", EMBEDDED}
# Levels of ensembles of ensembles.
_MOST_NESTED = 8


def encode_network(estimator: RatioEstimator) -> dict[str, Any]:
    """What JSON can hold of a network: its name and settings, or those of its members.

    Args:
        estimator: The ratio estimator.

    Returns:
        `classifier`, a name or None where there is no name; `classifier_settings`;
        `members`, a list of the same for an ensemble; and `embedded` in place of the
        name where there is something of the user's inside; see `list_embedded`.
    """
    if isinstance(estimator, Stack):
        return _encode_stack(estimator)
    members = getattr(estimator, "members", None)
    if members is not None:
        encoded = [encode_network(member) for member in members]
        return {
            **_name_whole(_ENSEMBLE, encoded),
            "classifier_settings": None,
            "members": encoded,
        }
    name = getattr(estimator, "embedded_name", None)
    return {
        "classifier": getattr(estimator, "classifier_name", None),
        "classifier_settings": getattr(estimator, "classifier_settings", None),
        **({} if name is None else {EMBEDDED: name}),
    }


def _name_whole(name: str, members: list[dict[str, Any]]) -> dict[str, Any]:
    """Name what is made of members, if each of them has a name."""
    if all(member["classifier"] is not None for member in members):
        return {"classifier": name}
    is_known = all(member["classifier"] or EMBEDDED in member for member in members)
    return {"classifier": None, **({EMBEDDED: name} if is_known else {})}


def _encode_stack(stack: Stack) -> dict[str, Any]:
    members = list(stack.stacked)
    if stack.proposal is not None and not any(m is stack.proposal for m in members):
        members.append(stack.proposal)
    places = [i for i, member in enumerate(members) if member is stack.proposal]
    encoded = [encode_network(member) for member in members]
    return {
        **_name_whole(_STACK, encoded),
        "classifier_settings": {
            "num_used": len(stack.stacked),
            "proposal": places[0] if places else -1,
            "has_offset": int(stack.has_offset),
            "has_correction": int(stack.has_correction),
        },
        "members": encoded,
    }


def list_embedded(document: Mapping[str, Any], depth: int = 0) -> set[str]:
    """What of the user's is inside of a network that has a name.

    Args:
        document: What `encode_network` returned.
        depth: Level in an ensemble of ensembles.

    Returns:
        `base` where there is a density that was given as such, and `embedding_net_x`
        where there is an embedding net.
    """
    members = document.get("members") or []
    if members and depth < _MOST_NESTED:
        return set().union(*(list_embedded(one, depth + 1) for one in members))
    if EMBEDDED not in document:
        return set()
    return {"base" if document[EMBEDDED] == GIVEN_DENSITY else "embedding_net_x"}


def rebuild_network(
    document: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    theta_shape: list[int],
    x_shape: list[int],
    classifier: object = None,
    embedding_net_x: nn.Module | None = None,
    base: Any = None,
    prior: Distribution | None = None,
) -> RatioEstimator:
    """Build a network anew and give it its weights.

    Args:
        document: What `encode_network` returned.
        weights: What its `state_dict` returned.
        theta_shape: Shape of one parameter set.
        x_shape: Shape of one observation.
        classifier: What the user gives in place of the name in the document.
        embedding_net_x: The net of the data that the user gives again.
        base: What `check_base` returned for the density that the user gives again.
        prior: The prior without cuts, which densities need.

    Returns:
        The ratio estimator.

    Raises:
        ValueError: If the weights are of another network.
    """
    given = classifier, embedding_net_x, base
    most = MOST_NUMBERS if any(own is not None for own in given) else 0

    def build(theta: Tensor, x: Tensor) -> RatioEstimator:
        if classifier is None or classifier == document["classifier"]:
            materials = _find_materials(document, prior, embedding_net_x, base)
            return _build(document, theta, x, materials, embedding_net_x)
        return resolve_classifier(classifier)(theta, x)

    return build_for_weights(build, weights, theta_shape, x_shape, most)


def _build(
    document: Mapping[str, Any],
    theta: Tensor,
    x: Tensor,
    materials: Materials | None,
    net: nn.Module | None = None,
    depth: int = 0,
) -> RatioEstimator:
    """Build what a document names; `net` is the user's, where it has one inside."""
    if depth > _MOST_NESTED:
        raise ValueError(f"`members` has more than {_MOST_NESTED} levels.")
    if not document.keys() <= _NETWORK:
        raise ValueError(f"`{', '.join(document.keys() - _NETWORK)}` is unknown.")
    settings = document["classifier_settings"]
    if settings is not None:
        _check_settings(settings)
    name = _find_name(document)
    if name in (_ENSEMBLE, _STACK):
        members = [
            _build(member, theta, x, materials, net, depth + 1)
            for member in document["members"]
        ]
        if name == _STACK:
            return build_stack(members, settings, theta, x)
        return average_log_ratios(members)
    if name == GIVEN_DENSITY and materials is not None and materials.base is not None:
        side = None
        if settings is not None:
            side = "posterior" if settings["is_posterior"] else "likelihood"
        return wrap_base(materials.base, materials.log_prior, theta, x, side)
    net = net if EMBEDDED in document else None
    if name in DENSITIES and materials is not None:
        if materials.theta_rows is not None:
            theta = materials.theta_rows
        member = Member(name, dict(settings), None)
        materials = materials._replace(embedding_net_x=net)
        return build_member(member, materials, theta, x)
    return NamedBuilder(name, settings, net)(theta, x)


def _find_name(document: Mapping[str, Any]) -> Any:
    name = document["classifier"]
    return document.get(EMBEDDED) if name is None else name


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
    document: Mapping[str, Any],
    prior: Distribution | None,
    net: nn.Module | None,
    base: Any,
) -> Materials | None:
    """What densities need to know of the prior; None where there are none."""
    names = (*DENSITIES, GIVEN_DENSITY)
    if prior is None or not (_has_stack(document) or _find_name(document) in names):
        return None
    rows = prior.sample((8,)).cpu()
    return Materials(find_transform(prior), LogPrior(prior), net, rows, base)


def _has_stack(document: Mapping[str, Any], depth: int = 0) -> bool:
    members = document.get("members") or []
    return _find_name(document) == _STACK or (
        depth < _MOST_NESTED and any(_has_stack(one, depth + 1) for one in members)
    )


def _check_settings(settings: Any) -> None:
    """Raise if settings of a network are anything but numbers and lists of them."""
    for name, value in settings.items():
        for part in value if isinstance(value, list) else [value]:
            if type(part) not in (int, float):
                raise ValueError(f"`{name}` must be a number, got {part!r:.60}.")
