r"""Hypergradients by the implicit function theorem.

Weights $w^*(\lambda)$ minimise a training loss $L_T(w, \lambda)$, hyperparameters
$\lambda$ are to lower a held-out loss $L_V(w^*(\lambda), \lambda)$. Where the gradient
of $L_T$ in w vanishes, w moves with $\lambda$ so that it stays zero, hence

$$\frac{dL_V}{d\lambda} = \frac{\partial L_V}{\partial \lambda} - \frac{\partial
L_V}{\partial w} \left[\frac{\partial^2 L_T}{\partial w \partial w^T}\right]^{-1}
\frac{\partial^2 L_T}{\partial w \partial \lambda^T}.$$

Read from the left it takes products of vectors with Jacobians only: the gradient of
$L_V$, some products with the Hessian, one with the mixed derivatives. Nothing grows
with the number of weights times the number of hyperparameters.
"""

from sbi_aalr.tuning.differentiation import differentiate
from sbi_aalr.tuning.info import Info, Settings
from sbi_aalr.tuning.training_gradient import Loss
from sbi_aalr.tuning.trees import Tree


def hypergradient(
    validation_loss: Loss,
    training_loss: Loss,
    weights: Tree,
    hyperparameters: Tree,
    *,
    inverse: str = "neumann",
    num_terms: int = 20,
    scale: float | None = None,
    damping: float = 0.0,
) -> Tree:
    r"""Differentiate a held-out loss in hyperparameters, through the fitted weights.

    Each loss is evaluated once. Noise that the training loss draws is therefore the
    same in the Hessian and in the mixed derivatives; a held-out loss should draw none,
    so put the model in `eval()` in it.

    Args:
        validation_loss: Maps weights and hyperparameters to the held-out loss, a tensor
            of no dimension.
        training_loss: The same for the loss that the weights minimise.
        weights: Tensors of any shapes, where the training loss is as low as it gets:
            a sequence, or a dictionary such as `dict(module.named_parameters())`.
            Losses may use what they are given, or parameters of a module directly.
        hyperparameters: Tensors of any shapes, or numbers: a sequence or a tree.
        inverse: What stands for the inverse of the Hessian H. `"neumann"` is
            $\alpha \sum_{j<K} (I - \alpha (H + d))^j$, as if K steps of gradient
            descent from the optimum had been differentiated; `"conjugate_gradient"`
            solves in at most K steps; `"identity"` is $\alpha I$, by default with
            $\alpha = 1$ (T1 − T2 in the literature); `"exact"` builds H, which is for
            small problems.
        num_terms: K. More are more exact, at the cost of some gradients each.
        scale: $\alpha$, below 2 by the largest eigenvalue. None for 1 by that
            eigenvalue, which power iteration finds at the cost of some more terms.
            `"conjugate_gradient"` and `"exact"` have no use for it.
        damping: d, added to the diagonal of H. More than the most negative eigenvalue
            makes an indefinite Hessian definite. `"identity"` has no use for it.

    Returns:
        Gradients in a tuple shaped like the hyperparameters; in a dictionary if those
        are one.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a setting has no sense, a loss is not finite or depends on none
            of what it is given, the training loss does not depend on a weight, or a
            hyperparameter is nowhere in it.
        DivergenceError: If the series diverges; it is a ValueError, too.

    Warns:
        IndefiniteHessianWarning: If a direction of negative curvature was met. The
            series ends there.

    References:
        Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590, Algorithms 2 and 3.

    Example:
        The best weight of $(w - 1)^2 + \lambda w^2$ is $1 / (1 + \lambda)$:

        >>> import torch
        >>> def training_loss(weights, hyperparameters):
        ...     (w,), (penalty,) = weights, hyperparameters
        ...     return (w - 1) ** 2 + penalty * w**2
        >>> def validation_loss(weights, hyperparameters):
        ...     return (weights[0] - 0.5) ** 2
        >>> best = torch.tensor(1 / 1.25)
        >>> hypergradient(validation_loss, training_loss, (best,), (0.25,))
        (tensor(-0.3840, dtype=torch.float64),)
    """
    settings = Settings(inverse, num_terms, scale, damping).check()
    gradient, _ = differentiate(
        validation_loss, training_loss, weights, hyperparameters, settings
    )
    return gradient


def hypergradient_with_info(
    validation_loss: Loss,
    training_loss: Loss,
    weights: Tree,
    hyperparameters: Tree,
    *,
    inverse: str = "neumann",
    num_terms: int = 20,
    scale: float | None = None,
    damping: float = 0.0,
) -> tuple[Tree, Info]:
    """Return a hypergradient, and how far it can be trusted.

    It is `hypergradient`, with the largest eigenvalue found in any case.

    Args:
        validation_loss: See `hypergradient`, as for all arguments.
        training_loss: The loss that the weights minimise.
        weights: Tensors of any shapes.
        hyperparameters: Tensors of any shapes, or numbers.
        inverse: What stands for the inverse of the Hessian.
        num_terms: Terms of the series, or steps of conjugate gradients.
        scale: The factor of the series.
        damping: What is added to the diagonal of the Hessian.

    Returns:
        The hypergradient, and an `Info`.

    Raises:
        TypeError: As `hypergradient`.
        ValueError: As `hypergradient`.

    Warns:
        IndefiniteHessianWarning: As `hypergradient`.
    """
    settings = Settings(inverse, num_terms, scale, damping).check()
    return differentiate(
        validation_loss,
        training_loss,
        weights,
        hyperparameters,
        settings,
        needs_spectrum=True,
    )
