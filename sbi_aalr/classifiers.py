"""What a user may pass as `classifier`, and the builder that it stands for."""

from collections.abc import Callable
from functools import partial

from sbi.neural_nets import classifier_nn
from sbi.neural_nets.net_builders.classifier import build_resnet_classifier
from sbi.neural_nets.net_builders.estimator_configs import ClassifierConfig
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr import networks
from sbi_aalr.checks import check_choice

Builder = Callable[[Tensor, Tensor], RatioEstimator]

CLASSIFIERS: dict[str, Callable[[], Builder]] = {
    "selu_mlp": networks.mlp,
    "mlp": lambda: classifier_nn("mlp"),
    "resnet": lambda: classifier_nn("resnet"),
    "linear": lambda: classifier_nn("linear"),
}


def resolve_classifier(classifier: object) -> Builder:
    """Return the builder that a user's `classifier` argument stands for.

    An estimator built from a name remembers it in `classifier_name`, so that it can be
    rebuilt when a saved posterior is loaded.

    Args:
        classifier: A name in `CLASSIFIERS`, a callable `build(theta, x)`, or sbi's
            `ClassifierConfig`, which configures its residual network.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it is an unknown name.
    """
    if isinstance(classifier, str):
        name = check_choice("classifier", classifier, CLASSIFIERS)

        def build(theta: Tensor, x: Tensor) -> RatioEstimator:
            estimator = CLASSIFIERS[name]()(theta, x)
            estimator.classifier_name = name
            return estimator

        return build
    if isinstance(classifier, ClassifierConfig):
        settings = classifier.to_dict()
        return lambda theta, x: build_resnet_classifier(theta, x, **settings)
    if callable(classifier) and not isinstance(classifier, nn.Module):
        return partial(_build_checked, classifier)
    raise TypeError(
        "`classifier` must be a name, a callable build(theta, x) -> RatioEstimator or "
        f"an sbi ClassifierConfig, got {type(classifier).__name__}."
    )


def _build_checked(
    builder: Callable[[Tensor, Tensor], object], theta: Tensor, x: Tensor
) -> RatioEstimator:
    estimator = builder(theta, x)
    if not isinstance(estimator, RatioEstimator):
        raise TypeError(
            "`classifier` must build a RatioEstimator, got "
            f"{type(estimator).__name__}. Wrap the network: RatioEstimator(net, "
            "theta.shape[1:], x.shape[1:])."
        )
    return estimator
