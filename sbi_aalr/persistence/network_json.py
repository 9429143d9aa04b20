"""Write down what a network is, and build one like it again."""

from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator

from sbi_aalr.networks.ensemble import average_log_ratios
from sbi_aalr.training.classifiers import NamedBuilder, resolve_classifier

_ENSEMBLE = "ensemble"


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


def rebuild_network(document: dict[str, Any], classifier: object) -> RatioEstimator:
    """Build a network anew, from rows that only have the right shape.

    Args:
        document: What `encode_network` returned, with `theta_shape` and `x_shape`.
        classifier: The name in the document, or what the user gives in its place.

    Returns:
        A ratio estimator that the saved weights fit.
    """
    with torch.random.fork_rng(devices=[]):
        if classifier == _ENSEMBLE:
            shapes = {name: document[name] for name in ("theta_shape", "x_shape")}
            return average_log_ratios(
                [
                    rebuild_network({**member, **shapes}, member["classifier"])
                    for member in document["members"]
                ]
            )
        theta = torch.randn(8, *document["theta_shape"])
        x = torch.randn(8, *document["x_shape"])
        builder = resolve_classifier(classifier)
        settings = document.get("classifier_settings")
        if isinstance(builder, NamedBuilder) and builder.name == document["classifier"]:
            builder = NamedBuilder(builder.name, settings)
        return builder(theta, x)
