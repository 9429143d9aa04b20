"""Measure what `train(tune=True)` does to posteriors: C2ST and expected coverage.

    python benchmarks/tuning_posteriors.py --seeds 1 2 3
    python benchmarks/tuning_posteriors.py --base auto --tasks slcp

Both fits get the same simulations. C2ST is sbi's perceptron's, between 5,000 converged
draws and as many exact ones, a mean over observations of this package. Coverage is that
of regions of highest density over 200 fresh observations: of the 95 % ones, and its
mean over all levels, less the levels; below zero is over-confident. Rows of Markdown
are printed as soon as they are known.
"""

import argparse
import warnings
from statistics import mean
from typing import Any

import torch
from sbibm import describe_commit
from tuning_fits import TASKS, simulate

from sbi_aalr import AALR
from sbi_aalr.comparison import two_sample_scores
from sbi_aalr.diagnostics import expected_coverage

NUM_DRAWS, NUM_OBSERVATIONS, NUM_COVERED = 5_000, 3, 200
SAMPLING: dict[str, Any] = {"min_ess": 5_000.0, "show_progress_bars": False}


def measure(task: Any, count: int, base: str | None, seed: int, tune: bool) -> str:
    """Fit, and return the cells of a row."""
    pairs = simulate(task, count, seed)
    trainer = AALR(task.prior, base=base, show_progress_bars=False)
    trainer.append_simulations(*pairs).train(seed=seed, tune=tune)
    posterior = trainer.build_posterior()
    _, observed = simulate(task, NUM_OBSERVATIONS, seed=30_000_000)
    scores = []
    for number, x_o in enumerate(observed):
        draws = posterior.sample((NUM_DRAWS,), x=x_o[None], seed=seed, **SAMPLING)
        exact = task.sample_posterior(NUM_DRAWS, x_o[None], seed=number)
        scores.append(two_sample_scores(draws, exact).c2st)
    theta, x = simulate(task, NUM_COVERED, seed=40_000_000)
    found = expected_coverage(posterior, theta, x, seed=seed, show_progress_bars=False)
    off = float((found.coverage - found.levels).mean())
    return f"{mean(scores):.3f} | {found.coverage[94]:.1%} | {off:+.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--simulations", nargs="+", type=int, default=[1_000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--base", default="none", choices=["none", "auto"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, commit {describe_commit()}\n")
    print("| task | simulations | base | seed | fit | C2ST | 95 % regions | off |")
    print("|" + "---|" * 8)
    base = None if options.base == "none" else options.base
    for count in options.simulations:
        for seed in options.seeds:
            for name in options.tasks:
                for tune in (False, True):
                    cells = measure(TASKS[name](), count, base, seed, tune)
                    fit = "tuned" if tune else "plain"
                    row = f"| {name} | {count:,} | {options.base} | {seed} | {fit} "
                    print(f"{row}| {cells} |", flush=True)


if __name__ == "__main__":
    main()
