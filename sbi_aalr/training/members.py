"""The structures that the default recipe fits, by what the data allow.

Two are closed forms, a Gaussian whose mean is a ridge regression, of each side of
Bayes' rule; others are mixtures of Gaussians that a network makes, of each side; and
there are the towers, which need no density to be a good guess.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from sbi_aalr.networks import likelihood_mixture, posterior_mixture
from sbi_aalr.training.recipe import Recipe

DENSITIES = ("posterior_mixture", "likelihood_mixture")
# A density of more numbers than these costs more than it says.
_MOST_NUMBERS = 32
# Of more numbers than these the correlations are too many for a network to learn from
# few simulations; `keep_better` finds out.
_FEW_NUMBERS = 8
_PLAIN = {
    "num_components": 1,
    "hidden_features": 128,
    "num_blocks": 2,
    "dropout": 0.3,
    "fixed_correlations": 1,
}
# A plain network learns slowly, and over-fits late.
_PLAIN_PASSES = 200
# In few dimensions posteriors are thin and curved, and components cheap.
_FEW_DIMS = 3


class Member(NamedTuple):
    """A structure to fit.

    Attributes:
        name: What it is called in the summary; the classifier's name to rebuild it.
        settings: Arguments of its builder, numbers all of them.
        recipe: How to train it; None for a closed form.
    """

    name: str
    settings: dict[str, Any]
    recipe: Recipe | None


class Materials(NamedTuple):
    """What densities need to know besides simulations.

    Attributes:
        theta_transform: From prior units to unconstrained space.
        log_prior: Log-density of the prior, minus infinity outside, nats.
        embedding_net_x: The user's net of the data, or None.
        theta_rows: Draws of the prior to build from when weights follow; None where
            there are simulations.
        base: What `check_base` returned for a density that is given, or None.
    """

    theta_transform: Transform
    log_prior: Callable[[Tensor], Tensor]
    embedding_net_x: nn.Module | None = None
    theta_rows: Tensor | None = None
    base: Any = None


def list_members(
    base: str,
    num_simulations: int,
    theta: Tensor,
    x: Tensor,
    has_embedding: bool,
    is_exchangeable: bool = False,
) -> list[Member]:
    """Say what to fit.

    Args:
        base: `"auto"`, `"posterior"` or `"likelihood"`.
        num_simulations: Simulations to train on.
        theta: Some parameters, shape `(N, D)`.
        x: Some data, shape `(N, *event_shape)`.
        has_embedding: Whether the data go through a net of the user's.
        is_exchangeable: Whether x, `(N, T, E)`, are T independent trials.

    Returns:
        Densities, cheapest first. One of the posterior's side is always among them, as
        it proposes.
    """
    dim, numbers = theta.shape[1], x.shape[-1]
    is_vector = (x.ndim == 2 or is_exchangeable) and not has_embedding
    recipe = choose_density_recipe(num_simulations)
    few = num_simulations < _MANY
    width = {"hidden_features": 64 if few else 128, "num_blocks": 2}
    dropout = 0.3 if num_simulations < _FEW else 0.0
    components = 16 if dim <= _FEW_DIMS else 8
    posterior = [
        Member("posterior_mixture", {"num_components": 1, "hidden_features": 0}, None),
        Member(
            "posterior_mixture",
            {"num_components": components, "dropout": dropout, **width},
            recipe,
        ),
    ]
    if not is_vector:
        posterior = posterior[1:]
    if is_vector and numbers > _MOST_NUMBERS and not is_exchangeable:
        posterior.append(
            Member(
                "posterior_mixture", {**posterior[-1].settings, "is_series": 1}, recipe
            )
        )
    likelihood = []
    if is_vector and numbers <= _MOST_NUMBERS:
        likelihood = [
            Member(
                "likelihood_mixture", {"num_components": 1, "hidden_features": 0}, None
            ),
            Member(
                "likelihood_mixture",
                {"num_components": 1, "dropout": dropout, **width},
                recipe,
            ),
            Member(
                "likelihood_mixture",
                {"num_components": 4, "dropout": dropout, **width},
                recipe,
            ),
        ]
        if numbers > _FEW_NUMBERS and num_simulations < _FEW:
            plain = recipe._replace(num_passes=_PLAIN_PASSES)
            likelihood.insert(2, Member("likelihood_mixture", dict(_PLAIN), plain))
    if is_exchangeable:
        likelihood = [
            member._replace(settings={**member.settings, "is_exchangeable": 1})
            for member in likelihood
        ]
    return posterior if base == "posterior" else posterior + likelihood


_FEW, _MANY = 5_000, 50_000


def choose_density_recipe(num_simulations: int) -> Recipe:
    """How densities are trained, by the size of the budget."""
    if num_simulations < _FEW:
        return Recipe(64, 60, 1e-3, 0.02, weight_decay=0.1)
    if num_simulations < _MANY:
        return Recipe(128, 40, 1e-3, 0.02, weight_decay=0.01)
    return Recipe(512, 30, 2e-3, 0.02)


def build_member(
    member: Member, materials: Materials, theta: Tensor, x: Tensor
) -> RatioEstimator:
    """Build a density from first rows; it remembers what it is, see `NamedBuilder`."""
    if member.name == "posterior_mixture":
        builder = posterior_mixture(
            materials.theta_transform,
            materials.log_prior,
            embedding_net_x=materials.embedding_net_x,
            **member.settings,
        )
    else:
        builder = likelihood_mixture(**member.settings)
    estimator = builder(theta.cpu(), x.cpu())
    estimator.classifier_settings = member.settings
    if materials.embedding_net_x is None or member.name != "posterior_mixture":
        estimator.classifier_name = member.name
    else:
        estimator.embedded_name = member.name
    return estimator
