"""The kinds of priors and transforms that can be described: how each is made.

What is not here, such as a class of your own, has no description.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from sbi.utils import BoxUniform, MultipleIndependent
from sbi.utils.user_input_checks_utils import (
    OneDimPriorWrapper,
    PytorchReturnTypeWrapper,
)
from torch import Tensor, distributions
from torch.distributions import Categorical, Distribution, Transform, transforms

from sbi_aalr.sampling.validity import Validity, ValidPrior


class Kind(NamedTuple):
    """How to make a kind of distribution or transform, and to take it apart.

    Attributes:
        make: Takes the arguments by name.
        attributes: Argument -> attribute that it is read from.
    """

    make: Callable[..., Any]
    attributes: dict[str, str]


def _make_box(validate_args: bool, **arguments: Any) -> BoxUniform:
    # sbi checks no bounds.
    distributions.Uniform(arguments["low"], arguments["high"], validate_args=True)
    box = BoxUniform(**arguments)
    box._validate_args = box.base_dist._validate_args = validate_args
    return box


def _join(dists: list[Distribution]) -> MultipleIndependent:
    joint = MultipleIndependent(list(dists))
    # sbi makes each anew, and factors of covariances are then rounded anew.
    joint.dists = dists
    return joint


def _make_categorical(probs: Tensor, logits: Tensor, validate_args: bool) -> Any:
    made = Categorical(logits=logits, validate_args=validate_args)
    # Both, as either would be rounded anew when it is made from the other.
    made.probs, made.logits = probs, logits
    return made


def _wrap(
    batch_shape: list[int], event_shape: list[int], **arguments: Any
) -> PytorchReturnTypeWrapper:
    shapes = torch.Size(batch_shape), torch.Size(event_shape)
    return PytorchReturnTypeWrapper(
        **arguments, batch_shape=shapes[0], event_shape=shapes[1]
    )


def _make_inverse(inv: Transform) -> Transform:
    return inv.inv


_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "Beta": ("concentration1", "concentration0"),
    "Cauchy": ("loc", "scale"),
    "Chi2": ("df",),
    "Dirichlet": ("concentration",),
    "Exponential": ("rate",),
    "FisherSnedecor": ("df1", "df2"),
    "Gamma": ("concentration", "rate"),
    "GeneralizedPareto": ("loc", "scale", "concentration"),
    "Gumbel": ("loc", "scale"),
    "HalfCauchy": ("scale",),
    "HalfNormal": ("scale",),
    "Independent": ("base_distribution", "reinterpreted_batch_ndims"),
    "InverseGamma": ("concentration", "rate"),
    "Kumaraswamy": ("concentration1", "concentration0"),
    "Laplace": ("loc", "scale"),
    "LogNormal": ("loc", "scale"),
    "LowRankMultivariateNormal": ("loc", "cov_factor", "cov_diag"),
    "MixtureSameFamily": ("mixture_distribution", "component_distribution"),
    # Not the covariance: its factor would then be rounded anew.
    "MultivariateNormal": ("loc", "scale_tril"),
    "Normal": ("loc", "scale"),
    "Pareto": ("scale", "alpha"),
    "StudentT": ("df", "loc", "scale"),
    "TransformedDistribution": ("base_distribution", "transforms"),
    "Uniform": ("low", "high"),
    "VonMises": ("loc", "concentration"),
    "Weibull": ("scale", "concentration"),
}
_TRANSFORMS: dict[str, tuple[str, ...]] = {
    "AbsTransform": (),
    "AffineTransform": ("loc", "scale", "event_dim"),
    "CatTransform": ("tseq", "dim", "lengths"),
    "ComposeTransform": ("parts",),
    "CumulativeDistributionTransform": ("distribution",),
    "ExpTransform": (),
    "IndependentTransform": ("base_transform", "reinterpreted_batch_ndims"),
    "PowerTransform": ("exponent",),
    "ReshapeTransform": ("in_shape", "out_shape"),
    "SigmoidTransform": (),
    "SoftplusTransform": (),
    "StackTransform": ("tseq", "dim"),
    "TanhTransform": (),
}
# Those that are not called like the argument.
_ATTRIBUTES = {"base_distribution": "base_dist", "tseq": "transforms"}


def _name_attributes(arguments: tuple[str, ...], **others: str) -> dict[str, str]:
    return {name: _ATTRIBUTES.get(name, name) for name in arguments} | others


def _find_kinds(
    module: Any, table: dict[str, tuple[str, ...]], **others: str
) -> dict[type, Kind]:
    """The kinds of a table, but for those that an older torch does not have."""
    return {
        getattr(module, name): Kind(
            getattr(module, name), _name_attributes(arguments, **others)
        )
        for name, arguments in table.items()
        if hasattr(module, name)
    }


KINDS: dict[type, Kind] = {
    **_find_kinds(distributions, _DISTRIBUTIONS, validate_args="_validate_args"),
    **_find_kinds(transforms, _TRANSFORMS, cache_size="_cache_size"),
    type(transforms.ExpTransform().inv): Kind(_make_inverse, {"inv": "inv"}),
    Categorical: Kind(
        _make_categorical,
        _name_attributes(("probs", "logits"), validate_args="_validate_args"),
    ),
    BoxUniform: Kind(
        _make_box,
        _name_attributes(
            ("low", "high", "reinterpreted_batch_ndims"), validate_args="_validate_args"
        ),
    ),
    MultipleIndependent: Kind(_join, _name_attributes(("dists",))),
    OneDimPriorWrapper: Kind(OneDimPriorWrapper, _name_attributes(("prior",))),
    PytorchReturnTypeWrapper: Kind(
        _wrap,
        _name_attributes(("prior", "return_type", "batch_shape", "event_shape")),
    ),
    ValidPrior: Kind(ValidPrior, _name_attributes(("prior", "validity"))),
    Validity: Kind(
        Validity, _name_attributes(("location", "spread", "logarithmic", "weights"))
    ),
}
