"""The cuts of a truncated prior, as JSON and as tensors beside the estimator's."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from sbi_aalr.persistence.network_json import encode_network, rebuild_network
from sbi_aalr.sampling.cut import Cut
from sbi_aalr.sampling.truncated_prior import TruncatedPrior
from sbi_aalr.training.parcel import select

_LEAST = "least_log_ratio"
_TENSORS = ("x", "low", "high")
_ESTIMATOR = "estimator."


def encode_cuts(
    prior: Distribution,
) -> tuple[Distribution, list[dict[str, Any]], dict[str, Tensor]]:
    """Take the cuts off a prior.

    Args:
        prior: A prior, truncated or not.

    Returns:
        The prior without cuts; what JSON can hold of each cut; and their tensors.
    """
    if not isinstance(prior, TruncatedPrior):
        return prior, [], {}
    documents: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for number, cut in enumerate(prior.cuts):
        documents.append({**encode_network(cut.estimator), _LEAST: cut.least_log_ratio})
        parts = {name: getattr(cut, name) for name in _TENSORS}
        for name, value in cut.estimator.state_dict().items():
            parts[f"{_ESTIMATOR}{name}"] = value
        tensors |= {f"{number}.{name}": value for name, value in parts.items()}
    return prior.prior, documents, tensors


def rebuild_cuts(
    prior: Distribution,
    documents: list[dict[str, Any]],
    tensors: Mapping[str, Tensor],
    *,
    theta_shape: list[int],
    x_shape: list[int],
    classifier: object = None,
    embedding_net_x: nn.Module | None = None,
    base: Any = None,
) -> Distribution:
    """Cut a prior as it was cut.

    Args:
        prior: The prior without cuts.
        documents: What `encode_cuts` returned, as are the tensors.
        tensors: The tensors.
        theta_shape: Shape of one parameter set.
        x_shape: Shape of one observation.
        classifier: What the user gives in place of the networks' name.
        embedding_net_x: The net of the data that the user gives again.
        base: What `check_base` returned for the density that the user gives again.

    Returns:
        The prior, truncated where there are cuts.

    Raises:
        ValueError: If the tensors are not those of the cuts.
    """
    numbers = {name.partition(".")[0] for name in tensors}
    if numbers != {str(number) for number in range(len(documents))}:
        raise ValueError(f"There are {len(documents)} cuts, and tensors of others.")
    if not documents:
        return prior
    cuts = []
    shapes = {"x": (1, *x_shape), "low": (*theta_shape,), "high": (*theta_shape,)}
    for number, document in enumerate(documents):
        parts = select(f"{number}.", tensors)
        for name, shape in shapes.items():
            check_values(name, parts.get(name), shape)
        least = document[_LEAST]
        if type(least) is not float:
            raise ValueError(f"`{_LEAST}` must be a float, got {least!r:.60}.")
        estimator = rebuild_network(
            {name: value for name, value in document.items() if name != _LEAST},
            select(_ESTIMATOR, parts),
            theta_shape=theta_shape,
            x_shape=x_shape,
            classifier=classifier,
            embedding_net_x=embedding_net_x,
            base=base,
            prior=prior,
        )
        values = {name: parts[name].clone() for name in _TENSORS}
        cuts.append(Cut(estimator=estimator, least_log_ratio=least, **values))
    return TruncatedPrior(prior, tuple(cuts))


def check_values(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raise if a tensor is missing, of another shape or dtype, or not finite.

    Data may be float64: where float32 would blur them, they are kept so.
    """
    dtypes = {"torch.float32"} | ({"torch.float64"} if name == "x" else set())
    if value is None or value.shape != shape or str(value.dtype) not in dtypes:
        found = None if value is None else f"{value.dtype} {tuple(value.shape)}"
        raise ValueError(f"`{name}` must be float32 {shape}, got {found}.")
    if not value.isfinite().all():
        raise ValueError(f"`{name}` must be finite.")
