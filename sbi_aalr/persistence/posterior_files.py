"""Save a posterior as safetensors and JSON: loading it runs no code from the file.

Weights, buffers and the default observation go into `posterior.safetensors`; the
network's name, the prior and the settings into `posterior.json`, with a hash of the one
and of the other. What cannot be written as data, such as a network from your own
builder, is given again when loading.

The hashes tell damage, and files of two saves that were mixed; they are no signature.
So nothing is built that does not fit the weights that are there.
"""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.distributions import Distribution

from sbi_aalr._version import __version__
from sbi_aalr.checks import check_prior
from sbi_aalr.errors import UnsavedPriorWarning
from sbi_aalr.files import check_path, hash_tensors, read_headed_tensors
from sbi_aalr.networks.builder import check_embedding_nets
from sbi_aalr.persistence.cut_files import (
    check_values,
    encode_cuts,
    rebuild_cuts,
)
from sbi_aalr.persistence.network_json import (
    encode_network,
    list_embedded,
    rebuild_network,
)
from sbi_aalr.persistence.posterior_folder import check_posterior_folder
from sbi_aalr.persistence.posterior_pair import find_weights, write_pair
from sbi_aalr.persistence.posterior_settings import (
    EMBEDDED,
    FORMAT,
    INDENTED,
    MEMBERS,
    MOST_BYTES,
    NAMES,
    read_settings,
    shorten,
)
from sbi_aalr.persistence.prior_json import decode_prior, encode_prior, is_same_prior
from sbi_aalr.persistence.run_folder import POSTERIOR_SETTINGS
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.training.bases import check_given_base
from sbi_aalr.training.parcel import select

_ESTIMATOR, _CUTS = "estimator.", "cuts."
# What the command takes again, and how it calls it.
_OPTIONS = {
    "prior": "--prior",
    "classifier": "--classifier",
    "embedding_net_x": "--embedding-net",
}
_NETWORK = ("classifier", "classifier_settings", MEMBERS, EMBEDDED)


class Saved(NamedTuple):
    """The parts of a saved posterior.

    Attributes:
        estimator: The ratio estimator, on the CPU.
        prior: The prior, truncated or not.
        settings: How to sample, by name; the kernel by name too, or itself.
        x: Default observation, or None.
        parameter_names: One name a parameter, or None.
    """

    estimator: RatioEstimator
    prior: Distribution
    settings: Mapping[str, Any]
    x: Tensor | None
    parameter_names: list[str] | None = None


def write(folder: str | Path, saved: Saved) -> Path:
    """Write the parts into a folder, which is made if needed.

    Each file appears whole or not at all, and whenever the process ends, there is the
    earlier posterior or this one.

    Args:
        folder: Where to.
        saved: What.

    Returns:
        The folder.

    Raises:
        NotADirectoryError: If it is something else already.
        OSError: If it cannot be written to.
        ValueError: If it holds files of these names that are no saved posterior.

    Warns:
        UnsavedPriorWarning: If JSON cannot hold the prior.
    """
    folder = check_posterior_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prior, cuts, cut_tensors = encode_cuts(saved.prior)
    weights = saved.estimator.state_dict()
    tensors = {f"{_ESTIMATOR}{name}": value for name, value in weights.items()}
    tensors |= {f"{_CUTS}{name}": value for name, value in cut_tensors.items()}
    if saved.x is not None:
        tensors["x"] = saved.x
    settings = dict(saved.settings)
    if not isinstance(settings["kernel"], str):
        settings["kernel"] = None
    described = encode_prior(prior)
    if len(json.dumps(described)) > MOST_BYTES // INDENTED:
        described = None
    document = {
        "format": FORMAT,
        "sbi_aalr": __version__,
        **encode_network(saved.estimator),
        "theta_shape": list(saved.estimator.theta_shape),
        "x_shape": list(saved.estimator.x_shape),
        "prior": described,
        "cuts": cuts,
        "parameters": settings,
    }
    if saved.parameter_names is not None:
        document[NAMES] = saved.parameter_names
    write_pair(folder, document, tensors)
    if described is None:
        warnings.warn(
            UnsavedPriorWarning(
                f"The prior, a {type(prior).__name__}, was not saved: it cannot be "
                "described in JSON, or not briefly. Give the same one again when "
                "loading, `MHPosterior.load(folder, prior=...)`, or to the command, "
                "`--prior module:name`."
            ),
            stacklevel=4,
        )
    return folder


def read(
    folder: str | Path,
    *,
    prior: Distribution | None = None,
    classifier: object = None,
    embedding_net_x: nn.Module | None = None,
    base: object = None,
    settings: dict[str, Any] | None = None,
) -> Saved:
    """Read what `write` wrote.

    Args:
        folder: Where from.
        prior: The prior, where it could not be written.
        classifier: The builder of the network, where it has no name.
        embedding_net_x: The user's net of the data inside a network that has a name.
        base: The density that was given to the trainer, inside of such a network.
        settings: Settings that replace those saved.

    Returns:
        The parts.

    Raises:
        FileNotFoundError: If the folder holds no saved posterior.
        ValueError: If a file is damaged or of another format, the two are not of one
            save, a part that could not be written is not given, or the prior is another
            than the one saved.
    """
    folder = check_path("folder", folder)
    document = read_settings(_find(folder / POSTERIOR_SETTINGS))
    weights_file = find_weights(folder, document.get("weights"))
    paths = folder / POSTERIOR_SETTINGS, _find(weights_file)
    tensors = _read_weights(paths[1], document)
    chosen = {**document["parameters"], **(settings or {})}
    shapes = {name: document[name] for name in ("theta_shape", "x_shape")}
    check_embedding_nets(None, embedding_net_x)
    network = {name: document[name] for name in _NETWORK if name in document}
    is_embedded = EMBEDDED in document and classifier is None
    embedded = {"embedding_net_x": embedding_net_x, "base": check_given_base(base)}
    inside = list_embedded(network) if is_embedded else set()
    # A base that was given may have no weight, and nobody knows of that beforehand.
    if embedding_net_x is not None and "embedding_net_x" not in inside:
        raise ValueError(
            "`embedding_net_x` must be left out: the posterior was saved without one, "
            "or its whole network is given by `classifier`."
        )
    given = {
        "prior": document["prior"] if prior is None else prior,
        "kernel": chosen["kernel"],
    }
    if is_embedded:
        given |= {name: embedded[name] for name in sorted(inside)}
    else:
        built = document["classifier"] if classifier is None else classifier
        given["classifier"] = built
    for name, value in given.items():
        if value is None:
            option = _OPTIONS.get(name)
            article = "an" if name[0] in "aeiou" else "a"
            to_command = f", or to the command, `{option} module:name`"
            raise ValueError(
                f"The posterior was saved with {article} {name} that JSON cannot hold. "
                f"Pass the same one again: `load(folder, {name}=...)`"
                f"{to_command if option else ''}."
            )
    prior = _choose_prior(paths[0], document, prior)
    networks: dict[str, Any] = {"classifier": classifier, **embedded}
    weights, cuts = select(_ESTIMATOR, tensors), select(_CUTS, tensors)
    try:
        estimator = rebuild_network(network, weights, prior=prior, **networks, **shapes)
        x = tensors.get("x")
        if x is not None:
            check_values("x", x, (max(1, len(x)), *document["x_shape"]))
            x = x.clone()
        documents = document.get("cuts", [])
        prior = rebuild_cuts(prior, documents, cuts, **networks, **shapes)
    except Exception as error:
        own = [f"`{name}`" for name, value in networks.items() if value is not None]
        if own and not isinstance(error, ValueError):
            raise
        advice = f" Give the same {' and '.join(own)} as in training." if own else ""
        raise ValueError(
            f"The weights in {paths[1]} do not fit the classifier in {paths[0].name}: "
            f"{shorten(error).rstrip('.:')}.{advice}"
        ) from error
    return Saved(estimator, prior, chosen, x, document.get(NAMES))


def _find(path: Path) -> Path:
    """Return the path, or raise if there is no file to read."""
    if not os.path.lexists(path):
        raise FileNotFoundError(
            f"`folder` must hold a saved posterior, but {path} is missing."
        )
    return path


def _read_weights(path: Path, document: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read all tensors, and make sure that they are those of the document."""
    try:
        tensors, head = read_headed_tensors(path)
    except OSError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    is_same_save = (
        hash_tensors(tensors) == document["weights"]
        if "weights" in document
        else "format" not in head
    )
    if not is_same_save:
        raise ValueError(
            f"{path} is damaged, or of another save than {POSTERIOR_SETTINGS}: the "
            "hash of its weights is not the one noted there. Save the posterior again."
        )
    for name in tensors:
        if name != "x" and not name.startswith((_ESTIMATOR, _CUTS)):
            raise ValueError(f"{path} is damaged: `{name:.60}` is unknown.")
    return tensors


def _choose_prior(
    path: Path, document: Mapping[str, Any], given: Distribution | None
) -> Distribution:
    """The prior without its cuts: the one that is described, or that is given again."""
    if isinstance(given, TruncatedPrior) and document.get("cuts"):
        given = given.prior
    described = document["prior"]
    if described is None:
        return cast(Distribution, given)
    try:
        prior = decode_prior(described)
        size = (*prior.batch_shape, *prior.event_shape)
        if list(size) != document["theta_shape"]:
            raise ValueError(f"The prior has shape {size}.")
        check_prior("prior", prior)
        is_same = given is None or is_same_prior(described, given)
    except Exception as error:
        raise ValueError(f"{path} is damaged. {shorten(error)}") from error
    if not is_same:
        raise ValueError(
            "`prior` must be the one that the posterior was saved with, "
            f"got another {type(given).__name__} than in {path}. Leave it out."
        )
    return prior
