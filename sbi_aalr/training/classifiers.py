"""What a user may pass as `classifier`, and the builder that it stands for."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from sbi.neural_nets import classifier_nn
from sbi.neural_nets.net_builders.classifier import build_resnet_classifier
from sbi.neural_nets.net_builders.estimator_configs import ClassifierConfig
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr import networks
from sbi_aalr.checks import check_choice, check_row_shapes
from sbi_aalr.networks.builder import float32_by_default
from sbi_aalr.networks.digits import round_for
from sbi_aalr.training.recipe import Entry, find_entry

Builder = Callable[[Tensor, Tensor], RatioEstimator]

CLASSIFIERS: dict[str, Callable[..., Builder]] = {
    "two_towers": networks.two_towers,
    "residual_mlp": networks.residual_mlp,
    "selu_mlp": networks.mlp,
    "mlp": partial(classifier_nn, "mlp"),
    "resnet": partial(classifier_nn, "resnet"),
    "linear": partial(classifier_nn, "linear"),
}

# sbi's take rows of numbers, unless they are given an embedding net.
_FLAT_ONLY = {"mlp", "resnet", "linear"}


class NamedBuilder:
    """The builder that a name stands for, which may depend on the budget.

    An estimator remembers the name in `classifier_name` and the settings in
    `classifier_settings`, so that it can be rebuilt when it is loaded. One that has a
    net of the user's inside has its name in `embedded_name` instead: it can be rebuilt
    where the net is given again.

    Args:
        name: A name in `CLASSIFIERS`.
        settings: Arguments of the network; by default those that suit the budget.
        embedding_net_x: The user's net of the data, which has no name to rebuild it by.
    """

    def __init__(
        self,
        name: str,
        settings: dict[str, Any] | None = None,
        embedding_net_x: nn.Module | None = None,
    ) -> None:
        self.name = check_choice("classifier", name, CLASSIFIERS)
        self.settings = settings
        self.embedding_net_x = embedding_net_x

    def __call__(
        self, theta: Tensor, x: Tensor, entry: Entry | None = None
    ) -> RatioEstimator:
        """Build for a budget; by default that of the rows that are given."""
        settings = self.settings
        if settings is None:
            entry = entry or find_entry(len(theta))
            settings = dict(entry.towers) if self.name == "two_towers" else {}
        if self.embedding_net_x is not None:
            builder = CLASSIFIERS[self.name](
                embedding_net_x=self.embedding_net_x, **settings
            )
            estimator = builder(theta, x)
            estimator.embedded_name = self.name
            estimator.classifier_settings = settings
            return estimator
        if self.name in _FLAT_ONLY and x.ndim != 2:
            raise ValueError(
                "`classifier` must be one that takes data of shape "
                f"{tuple(x.shape[1:])}, such as 'two_towers', got {self.name!r}, which "
                "takes rows. Flatten them, or pass sbi's builder with an "
                "`embedding_net_x`."
            )
        estimator = CLASSIFIERS[self.name](**settings)(theta, x)
        estimator.classifier_name = self.name
        estimator.classifier_settings = settings
        return estimator


def resolve_classifier(
    classifier: object, embedding_net_x: nn.Module | None = None
) -> Builder:
    """Return the builder that a user's `classifier` argument stands for.

    Args:
        classifier: A name in `CLASSIFIERS`, a callable `build(theta, x)`, or sbi's
            `ClassifierConfig`, which configures its residual network.
        embedding_net_x: Net of the data for a network that has a name.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it is an unknown name, or a net is given for a builder.
    """
    if isinstance(classifier, NamedBuilder):
        return classifier
    if isinstance(classifier, str):
        return NamedBuilder(classifier, embedding_net_x=embedding_net_x)
    if embedding_net_x is not None:
        raise ValueError(
            "`embedding_net_x` must come with the name of a classifier, got "
            f"{classifier!r:.60} besides. Put the net into that builder."
        )
    if isinstance(classifier, ClassifierConfig):
        settings = classifier.to_dict()
        return lambda theta, x: build_resnet_classifier(theta, x, **settings)
    if callable(classifier) and not isinstance(classifier, nn.Module):
        return partial(_build_checked, classifier)
    raise TypeError(
        "`classifier` must be a name, a callable build(theta, x) -> RatioEstimator or "
        f"an sbi ClassifierConfig, got {type(classifier).__name__}."
    )


def build_network(
    builder: Builder, theta: Tensor, x: Tensor, entry: Entry
) -> RatioEstimator:
    """Build from a first batch, of the size that suits the budget if there is a choice.

    Args:
        builder: What `resolve_classifier` returned.
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.
        entry: What `find_entry` found for the budget.

    Returns:
        The ratio estimator, on the CPU.
    """
    rows = theta.cpu(), x.cpu()
    # Networks are float32, whatever else the user computes with.
    with float32_by_default():
        network = _build(builder, rows, entry)
        rounded = round_for(network, rows[1])
        if rounded is not rows[1]:
            # It has seen digits that it will not be shown.
            network = _build(builder, (rows[0], rounded), entry)
    return network


def _build(
    builder: Builder, rows: tuple[Tensor, Tensor], entry: Entry
) -> RatioEstimator:
    if isinstance(builder, NamedBuilder):
        return builder(*rows, entry)
    return builder(*rows).float()


def check_fits(estimator: RatioEstimator, theta: Tensor, x: Tensor) -> None:
    """Raise if an estimator to train further takes rows of another shape."""
    shapes = (estimator.input_shape, estimator.condition_shape)
    check_row_shapes(theta, x, shapes, "the estimator fitted before")


def _build_checked(
    builder: Callable[[Tensor, Tensor], object], theta: Tensor, x: Tensor
) -> RatioEstimator:
    try:
        inspect.signature(builder).bind(theta, x)
    except TypeError as error:
        raise TypeError(
            "`classifier` must be build(theta, x) -> RatioEstimator, got "
            f"{builder!r:.60}, which cannot be called so: {error}."
        ) from error
    except ValueError:
        # Some callables that are not Python's tell no signature.
        pass
    estimator = builder(theta, x)
    if not isinstance(estimator, RatioEstimator):
        raise TypeError(
            "`classifier` must build a RatioEstimator, got "
            f"{type(estimator).__name__}. Wrap the network: RatioEstimator(net, "
            "theta.shape[1:], x.shape[1:])."
        )
    return estimator
