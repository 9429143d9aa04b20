"""Save a posterior as safetensors and JSON: loading it runs no code from the file.

Weights, buffers and the default observation go into `posterior.safetensors`; the
network's name, the prior and the settings into `posterior.json`. What cannot be written
as data, such as a network from your own builder, is given again when loading.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, cast

from safetensors.torch import load_file, save
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr._version import __version__
from sbi_aalr.checks import check_device
from sbi_aalr.files import write_whole
from sbi_aalr.persistence.network_json import encode_network, rebuild_network
from sbi_aalr.persistence.prior_json import decode_prior, encode_prior
from sbi_aalr.sampling.parameters import MHPosteriorParameters

_FORMAT = 1
_WEIGHTS = "posterior.safetensors"
_SETTINGS = "posterior.json"
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
        parameters: Settings of the posterior.
        x: Default observation, or None.
    """

    estimator: RatioEstimator
    prior: Distribution
    parameters: MHPosteriorParameters
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
        f"{_PREFIX}{name}": value.detach().cpu().contiguous().clone()
        for name, value in saved.estimator.state_dict().items()
    }
    if saved.x is not None:
        tensors["x"] = saved.x.cpu().contiguous()
    settings = saved.parameters.to_dict()
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
    text = json.dumps(document, indent=2) + "\n"
    write_whole(folder / _WEIGHTS, lambda path: path.write_bytes(save(tensors)))
    write_whole(folder / _SETTINGS, lambda path: path.write_text(text))
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
    for name in (_SETTINGS, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"`folder` must hold a saved posterior, but {folder / name} is missing."
            )
    document = _read_json(folder / _SETTINGS)
    try:
        tensors = load_file(folder / _WEIGHTS)
    except Exception as error:
        raise ValueError(f"{folder / _WEIGHTS} is damaged: {error}.") from error
    parameters = {**document["parameters"], **(settings or {})}
    if classifier is None:
        classifier = document["classifier"]
    if prior is None and document["prior"] is not None:
        prior = decode_prior(document["prior"])
    given = {"classifier": classifier, "kernel": parameters["kernel"]}
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
            f"The weights in {folder / _WEIGHTS} do not fit the classifier: {error}"
        ) from error
    return Saved(
        estimator.eval(),
        cast(Distribution, prior),
        MHPosteriorParameters().with_param(**parameters),
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


class SavedPosterior:
    """The part of `MHPosterior` that writes itself to disk and comes back."""

    potential_fn: Any
    parameters: MHPosteriorParameters
    from_estimator: ClassVar[Callable[..., Any]]
    _x: Tensor | None

    def save(self, folder: str | Path) -> Path:
        """Write the posterior to a folder: safetensors and JSON, no pickle.

        Args:
            folder: Where to; made if needed.

        Returns:
            The folder.

        Raises:
            TypeError: If the posterior has no ratio estimator, whose weights to write.
        """
        if not isinstance(self.potential_fn, RatioBasedPotential):
            raise TypeError(
                "Only posteriors with a ratio estimator can be saved, got a "
                f"{type(self.potential_fn).__name__}."
            )
        estimator, prior = self.potential_fn.ratio_estimator, self.potential_fn.prior
        return write(folder, Saved(estimator, prior, self.parameters, self._x))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        prior: Distribution | None = None,
        classifier: object = None,
        device: str = "cpu",
        **settings: Any,
    ) -> Self:
        """Read a posterior that `save` wrote; nothing in the files is executed.

        Args:
            folder: Where from.
            prior: The prior, where JSON could not hold it.
            classifier: The builder of the network, where it was your own.
            device: Where to sample.
            **settings: Settings by name, over those saved.

        Returns:
            The posterior, without chains.

        Raises:
            FileNotFoundError: If the folder holds no saved posterior.
            ValueError: If a file is damaged, or something must be given again, or the
                device does not work.
        """
        check_device("device", device)
        saved = read(folder, prior=prior, classifier=classifier, settings=settings)
        posterior = cls.from_estimator(
            saved.estimator, saved.prior, **saved.parameters.to_dict()
        )
        if saved.x is not None:
            posterior.set_default_x(saved.x)
        return posterior.to(device)
