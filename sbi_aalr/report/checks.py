"""Run the checks that need a simulator, within a budget of simulations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.diagnostics import (
    RatioNormalisation,
    add_predictive,
    classifier_balance,
    expected_coverage,
    predictive_check,
    ratio_roc,
    warn_if_misspecified,
)
from sbi_aalr.diagnostics.convergence import read_convergence
from sbi_aalr.diagnostics.coverage import BatchedPosterior
from sbi_aalr.diagnostics.draws import Array, read_draws
from sbi_aalr.diagnostics.log_ratio import LogRatio, fix_rows
from sbi_aalr.diagnostics.prior_agreement import PriorAgreement, compare_with_prior
from sbi_aalr.diagnostics.ratio_normalisation import judge_means
from sbi_aalr.mcmc.weights import sum_weights
from sbi_aalr.report.evidence import Checks
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation.adapt import adapt

# Simulations for the ROC test, and seed of all checks, unless told otherwise.
NUM_SIMULATIONS = 100_000
SEED = 1
_NUM_COVERAGE = 100
_NUM_NEIGHBOURS = 5_000
_MIN_NEIGHBOURS = 200
_NUM_PREDICTIONS = 10_000
# Of the posterior, where many trials make each dear.
_MIN_CHECKED_DRAWS = 5
_NUM_BALANCE = 10_000
_MAX_NORMALISED = 10
_MIN_NORMALISED_DRAWS = 10_000
_BLOCK_ROWS = 10_000
# Ranks need no more than a hundred draws that are nearly independent.
_COVERAGE_DRAWS = 100
# How the posterior of a run is sampled for them.
QUICK: dict[str, Any] = {
    "num_chains": 20,
    "max_rhat": 1.05,
    "min_ess": float(_COVERAGE_DRAWS),
}


def run_checks(
    tree: xr.DataTree,
    posterior: BatchedPosterior,
    log_ratio: LogRatio,
    simulator: Callable[..., Any] | None,
    prior: Distribution,
    *,
    truth: Array | None = None,
    num_simulations: int = NUM_SIMULATIONS,
    seed: int = SEED,
    exclude_invalid_x: bool = False,
    on_phase: Callable[[str], object] = lambda what: None,
) -> tuple[Checks, xr.DataTree]:
    """Run every check that can be run, and simulate from the posterior.

    The ROC test is made at the true parameters where they are known, else at the draw
    of highest density of the first observation.

    Args:
        tree: The chains with `observed_data`.
        posterior: What coverage is measured of.
        log_ratio: The ratio estimator.
        simulator: Any simulator that sbi accepts; without one, only what prior draws
            tell is tested.
        prior: The prior.
        truth: True parameters, shape `(D,)` or `(B, D)`.
        num_simulations: Simulations for the ROC test; all others together take some
            80,000 at most, and more only for hundreds of observations or trials.
        seed: Makes the checks repeatable.
        exclude_invalid_x: Simulate again where the simulator gives NaN or infinity.
        on_phase: Called with a few words at the start of each check.

    Returns:
        The checks, and the tree with predictive draws.

    Warns:
        FarObservationWarning: If an observation is far from all simulations.
    """
    on_phase("Weighting prior draws by the ratio")
    normalisation, agreement = _weigh_prior(
        tree, log_ratio, prior, num_draws=num_simulations, seed=seed
    )
    if simulator is None:
        return Checks(normalisation=normalisation, agreement=agreement), tree
    draws = read_draws(tree)
    rows = _read_rows(tree)
    theta = _choose_theta(tree, truth)
    batched = adapt(simulator, prior, exclude_invalid_x)

    on_phase("Testing the ratio by a classifier")
    roc = ratio_roc(
        log_ratio,
        batched,
        prior,
        theta,
        num_simulations=num_simulations,
        seed=seed,
    )
    on_phase("Testing balance")
    balance = classifier_balance(
        log_ratio,
        batched,
        prior,
        num_simulations=max(2, min(num_simulations, _NUM_BALANCE)),
        seed=seed,
    )
    num_trials = int(tree["observed_data"]["x"].sizes.get("trial", 1))
    num_neighbours = max(min(num_simulations, _NUM_NEIGHBOURS), _MIN_NEIGHBOURS)
    coverage = None
    with seeded(seed):
        if num_trials == 1:
            on_phase(f"Measuring coverage over {_NUM_COVERAGE} simulated observations")
            theta_prior = prior.sample((_NUM_COVERAGE,))
            coverage = expected_coverage(
                posterior,
                theta_prior,
                batched(theta_prior),
                num_samples=_COVERAGE_DRAWS,
                parameter_names=draws.parameter_names,
                seed=seed,
            )
        others = batched(prior.sample((num_neighbours,)))
    on_phase("Simulating from the posterior")
    num_rows = draws.theta.shape[2] * num_trials
    num_draws = max(100, min(1_000, _NUM_PREDICTIONS // num_rows))
    predicted = add_predictive(tree, batched, prior, num_draws=num_draws, seed=seed)
    checks = Checks(
        ratio_roc=roc,
        roc_theta=theta.numpy(),
        normalisation=normalisation,
        agreement=agreement,
        predictive=predictive_check(
            tree,
            batched,
            prior,
            num_draws=max(_MIN_CHECKED_DRAWS, 100 // num_trials),
            seed=seed,
        ),
        balance=balance,
        coverage=coverage,
        familiarity=warn_if_misspecified(rows, others, stacklevel=4),
        num_trials=num_trials,
    )
    return checks, predicted


def _weigh_prior(
    tree: xr.DataTree,
    log_ratio: LogRatio,
    prior: Distribution,
    *,
    num_draws: int,
    seed: int,
) -> tuple[RatioNormalisation | None, PriorAgreement]:
    """Weight prior draws by the ratio: is it normalised, and do the chains agree?

    Args:
        tree: The chains with `observed_data`.
        log_ratio: The ratio estimator.
        prior: The prior.
        num_draws: Prior draws for all observations together, 10,000 for each at least.
        seed: Makes the tests repeatable.

    Returns:
        Both tests, of at most 10 observations, evenly spaced. Of i.i.d. trials, whose
        summed ratio is not normalised, there is only the second.
    """
    rows, draws = _read_rows(tree), read_draws(tree)
    are_trials = "trial" in tree["observed_data"]["x"].dims
    chosen = np.arange(1)
    if not are_trials:
        places = np.linspace(0, len(rows) - 1, _MAX_NORMALISED)
        chosen = np.unique(places.astype(int))
        rows = rows[chosen]
    with seeded(seed):
        theta = prior.sample((max(num_draws // len(chosen), _MIN_NORMALISED_DRAWS),))
    evaluate = fix_rows(log_ratio, rows)
    blocks = [evaluate(part) for part in theta.split(_BLOCK_ROWS)]
    if are_trials:
        blocks = [part.sum(dim=1, keepdim=True) for part in blocks]
    log_weights = torch.cat(blocks)
    agreement = compare_with_prior(
        draws.theta.reshape(-1, *draws.theta.shape[2:])[:, chosen],
        _read_ess(tree)[chosen],
        theta.cpu().numpy(),
        log_weights.numpy(),
        observations=chosen,
        parameter_names=draws.parameter_names,
    )
    return (
        None if are_trials else judge_means(sum_weights(log_weights)),
        agreement,
    )


def _read_ess(tree: xr.DataTree) -> Array:
    """Effective sample sizes, shape `(B, D)`."""
    found = read_convergence(tree)["ess_bulk"]
    return np.atleast_2d(found.values)


def _read_rows(tree: xr.DataTree) -> Tensor:
    """Observations or trials, shape `(B, *event_shape)`."""
    observed = tree["observed_data"]["x"]
    rows = torch.as_tensor(np.array(observed.values))
    rows = rows if rows.dtype == torch.float64 else rows.float()
    is_single = not read_draws(tree).batched and "trial" not in observed.dims
    return rows[None] if is_single else rows


def _choose_theta(tree: xr.DataTree, truth: Array | None) -> Tensor:
    if truth is not None:
        return torch.as_tensor(np.atleast_2d(truth)[0], dtype=torch.float32)
    theta = read_draws(tree).theta[:, :, 0]
    best = theta.reshape(-1, theta.shape[-1])[0]
    if "sample_stats" in tree.children and "lp" in tree["sample_stats"]:
        log_prob = tree["sample_stats"].to_dataset()["lp"].values
        log_prob = log_prob.reshape(*theta.shape[:2], -1)
        best = theta[np.unravel_index(log_prob[:, :, 0].argmax(), theta.shape[:2])]
    return torch.as_tensor(np.array(best), dtype=torch.float32)
