"""How good draws are: C2ST, ROC AUC and MMD against exact ones, and their chains.

References:
    Lopez-Paz & Oquab (2017), arXiv:1610.06545, for C2ST.
    Gretton et al. (2012), JMLR 13, for MMD.
    Lueckmann et al. (2021), arXiv:2101.04653, for how they are used here.
    Hermans, Begy & Louppe (2020), arXiv:1903.04057, Table 1, for the ROC AUC.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import parallel_config
from sbi.inference import MCMCPosterior
from sbi.utils.metrics import c2st
from sklearn.metrics import roc_auc_score
from torch import Tensor

from sbi_aalr.checks import check_finite, check_seed, check_tensor
from sbi_aalr.mcmc import convergence
from sbi_aalr.posterior import MHPosterior

_BLOCK_ROWS = 1_000


class TwoSampleScores(NamedTuple):
    """What a classifier makes of two sets of draws; 0.5 is the best possible.

    Attributes:
        c2st: Accuracy, by cross-validation.
        roc_auc: Area under the ROC curve, by the same cross-validation.
    """

    c2st: float
    roc_auc: float


def two_sample_scores(
    draws: Tensor, reference: Tensor, *, seed: int = 1
) -> TwoSampleScores:
    """Train sbi's classifier to tell draws from exact ones.

    The C2ST is `sbi.utils.metrics.c2st` with the multilayer perceptron of sbibm, which
    does not memorise repeated rows as a random forest does. The ROC AUC is that of
    the same five classifiers on the same held-out draws, averaged.

    Args:
        draws: Draws to judge, shape `(S, D)`.
        reference: Draws from the exact posterior, shape `(S, D)`.
        seed: Seed of the classifiers and of the split.

    Returns:
        Both scores.

    Raises:
        ValueError: If the shapes differ, or there is NaN or infinity.

    Example:
        >>> draws = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
        >>> two_sample_scores(draws, draws + 10.0).c2st > 0.95
        True
    """
    _check_draws(draws, reference)
    # scikit-learn takes 32 bits.
    seed = check_seed("seed", seed) % 2**32
    areas = []

    def score(classifier: Any, rows: Any, labels: Any) -> float:
        areas.append(roc_auc_score(labels, classifier.predict_proba(rows)[:, 1]))
        return classifier.score(rows, labels)

    # In this process, whatever spreads work around this call: `score` takes notes.
    with parallel_config(backend="sequential"):
        accuracy = c2st(reference, draws, seed=seed, classifier="mlp", metric=score)
    return TwoSampleScores(float(accuracy), sum(areas) / len(areas))


def mmd(draws: Tensor, reference: Tensor) -> float:
    """Estimate the squared maximum mean discrepancy, without bias.

    The kernel is Gaussian; its length is the median distance between the exact draws,
    so that it is the same for all that is compared with them.

    Args:
        draws: Draws to judge, shape `(S, D)`.
        reference: Draws from the exact posterior, shape `(R, D)`.

    Returns:
        The estimate, dimensionless; zero on average if both have one distribution, and
        as often below as above.

    Raises:
        ValueError: If the numbers of parameters differ, there is NaN or infinity, or
            fewer than two draws.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
        >>> abs(mmd(x[:250], x[250:])) < 0.02 < mmd(x[:250], x[250:] + 1)
        True
    """
    _check_draws(draws, reference, same_rows=False)
    length = torch.pdist(reference[:_BLOCK_ROWS].double()).median().clamp(min=1e-12)
    # In units of the kernel's length, around zero, float32 is exact enough and fast.
    centre = reference.double().mean(0)
    draws, reference = (
        ((rows.double() - centre) / length).float() for rows in (draws, reference)
    )

    def mean_kernel(first: Tensor, second: Tensor) -> float:
        total = sum(
            float(_compute_kernel(rows, second).sum(dtype=torch.float64))
            for rows in first.split(_BLOCK_ROWS)
        )
        if first is second:
            # Without each row's kernel with itself, which is one.
            return (total - len(first)) / (len(first) * (len(first) - 1))
        return total / (len(first) * len(second))

    within = mean_kernel(draws, draws) + mean_kernel(reference, reference)
    return within - 2 * mean_kernel(draws, reference)


class Mixing(NamedTuple):
    """How well chains mix; NaN where there are none, or where it cannot be told.

    Attributes:
        min_ess: Least effective sample size, bulk or tail, over parameters.
        max_rhat: Largest R-hat over parameters.
    """

    min_ess: float
    max_rhat: float


def measure_mixing(posterior: Any, draws: Tensor) -> Mixing:
    """Tell how well the chains behind the last draws of a posterior mix.

    An `MHPosterior` has measured it; sbi's chains are put together again from the draws
    and measured here.

    Args:
        posterior: The posterior that was drawn from.
        draws: What it returned, shape `(S, D)`.

    Returns:
        Effective sample size and R-hat of the worst parameter.
    """
    if isinstance(posterior, MHPosterior):
        measured = posterior.diagnostics()
        sizes = np.minimum(measured["ess_bulk"].values, measured["ess_tail"].values)
        return Mixing(float(sizes.min()), float(measured["r_hat"].values.max()))
    if not isinstance(posterior, MCMCPosterior):
        return Mixing(math.nan, math.nan)
    length = -(-len(draws) // posterior.num_chains)
    chains = draws[: len(draws) // length * length].unflatten(0, (-1, length))
    theta = chains.unsqueeze(2).double()
    smallest = torch.minimum(convergence.ess_bulk(theta), convergence.ess_tail(theta))
    return Mixing(float(smallest.min()), float(convergence.rhat(theta).max()))


def _compute_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Gaussian kernel of length one, `(N, D)` and `(M, D)` -> `(N, M)`."""
    offsets = first.square().sum(1, keepdim=True) + second.square().sum(1)
    square = torch.addmm(offsets, first, second.T, alpha=-2).clamp_(min=0)
    return square.mul_(-0.5).exp_()


def _check_draws(draws: Tensor, reference: Tensor, same_rows: bool = True) -> None:
    draws, reference = (
        check_tensor(name, value)
        for name, value in (("draws", draws), ("reference", reference))
    )
    fits = draws.ndim == reference.ndim == 2 and draws.shape[1] == reference.shape[1]
    if not fits or (same_rows and len(draws) != len(reference)):
        raise ValueError(
            "`draws` and `reference` must have the same shape, got "
            f"{tuple(draws.shape)} and {tuple(reference.shape)}."
        )
    if min(len(draws), len(reference)) < 2:
        raise ValueError(f"`draws` must have at least two rows, got {len(draws)}.")
    check_finite("draws", draws)
    check_finite("reference", reference)
