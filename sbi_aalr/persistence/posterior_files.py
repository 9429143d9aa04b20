"""Save a posterior as safetensors and JSON: loading it runs no code from the file.

Weights, buffers and the default observation go into `posterior.safetensors`; the
network's name, the prior and the settings into `posterior.json`. What cannot be written
as data, such as a network from your own builder, is given again when loading.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from safetensors.torch import load_file
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr._version import __version__
from sbi_aalr.files import write_json, write_tensors
from sbi_aalr.persistence.network_json import encode_network, rebuild_network
from sbi_aalr.persistence.prior_json import decode_prior, encode_prior
from sbi_aalr.persistence.run_folder import POSTERIOR_SETTINGS, POSTERIOR_WEIGHTS

_FORMAT = 1
_PREFIX = "estimator."
_CONTENT: dict[str, Any] = {
    "classifier": str | None,
    "theta_shape": list,
    "x_shape": list,
    "prior": dict | None,
    "parameters": dict,
}


class Saved(NamedTuple):
    """The parts of a saved posterior.

    Attributes:
        estimator: The ratio estimator, on the CPU.
        prior: The prior.
        settings: How to sample, by name; the kernel by name too, or itself.
        x: Default observation, or None.
    """

    estimator: RatioEstimator
    prior: Distribution
    settings: Mapping[str, Any]
    x: Tensor | None


def write(folder: str | Path, saved: Saved) -> Path:
    """Write the parts into a folder, which is made if needed.

    Each file appears whole or not at all.

    Args:
        folder: Where to.
        saved: What.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{_PREFIX}{name}": value
        for name, value in saved.estimator.state_dict().items()
    }
    if saved.x is not None:
        tensors["x"] = saved.x
    settings = dict(saved.settings)
    if not isinstance(settings["kernel"], str):
        settings["kernel"] = None
    document = {
        "format": _FORMAT,
        "sbi_aalr": __version__,
        **encode_network(saved.estimator),
        "theta_shape": list(saved.estimator.theta_shape),
        "x_shape": list(saved.estimator.x_shape),
        "prior": encode_prior(saved.prior),
        "parameters": settings,
    }
    write_tensors(folder / POSTERIOR_WEIGHTS, tensors)
    write_json(folder / POSTERIOR_SETTINGS, document)
    return folder


def read(
    folder: str | Path,
    *,
    prior: Distribution | None = None,
    classifier: object = None,
    settings: dict[str, Any] | None = None,
) -> Saved:
    """Read what `write` wrote.

    Args:
        folder: Where from.
        prior: The prior, where it could not be written.
        classifier: The builder of the network, where it has no name.
        settings: Settings that replace those saved.

    Returns:
        The parts.

    Raises:
        FileNotFoundError: If the folder holds no saved posterior.
        ValueError: If a file is damaged or of another format, or a part that could not
            be written is not given.
    """
    folder = Path(folder)
    for name in (POSTERIOR_SETTINGS, POSTERIOR_WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"`folder` must hold a saved posterior, but {folder / name} is missing."
            )
    document = _read_json(folder / POSTERIOR_SETTINGS)
    path = folder / POSTERIOR_WEIGHTS
    try:
        tensors = load_file(path)
    except Exception as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    chosen = {**document["parameters"], **(settings or {})}
    if classifier is None:
        classifier = document["classifier"]
    if prior is None and document["prior"] is not None:
        prior = decode_prior(document["prior"])
    given = {"classifier": classifier, "kernel": chosen["kernel"]}
    for name, value in {"prior": prior, **given}.items():
        if value is None:
            raise ValueError(
                f"The posterior was saved with a {name} that JSON cannot hold. Pass "
                f"the same one again: `load(folder, {name}=...)`."
            )
    estimator = rebuild_network(document, classifier)
    weights = {
        name.removeprefix(_PREFIX): value
        for name, value in tensors.items()
        if name.startswith(_PREFIX)
    }
    try:
        estimator.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {path} do not fit the classifier: {error}"
        ) from error
    return Saved(
        estimator.eval(),
        cast(Distribution, prior),
        chosen,
        tensors.get("x"),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
        found = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if found != _FORMAT:
        raise ValueError(
            f"{path} must have format {_FORMAT}, got {found!r}. It was written by "
            f"sbi_aalr {document.get('sbi_aalr')}; this is {__version__}."
        )
    for name, kind in _CONTENT.items():
        if name not in document or not isinstance(document[name], kind):
            raise ValueError(f"{path} is damaged: `{name}` is missing or wrong.")
    if "kernel" not in document["parameters"]:
        raise ValueError(f"{path} is damaged: `kernel` is missing.")
    return document
