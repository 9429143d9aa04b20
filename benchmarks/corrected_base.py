"""Draw what ratio estimation mends of an NPE that is too simple, and the test of both.

    python benchmarks/corrected_base.py --figure docs/images/corrected_base.png

sbi's NPE with one Gaussian is fitted to two moons, and given to `AALR` as its base,
with the same simulations. Panels show draws for an observation of this package over
exact ones, and the paper's ROC test of both ratios at the parameters behind it.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sbibm import describe_commit, print_conditions
from sbibm_variants import BASES, QUIET
from torch import Tensor

from sbi_aalr import AALR
from sbi_aalr.comparison import two_sample_scores
from sbi_aalr.diagnostics import ratio_roc
from sbi_aalr.seeding import seeded
from sbi_aalr.simulators import TwoMoons

NUM_DRAWS, NUM_SHOWN, NUM_TESTED = 5_000, 2_000, 300_000
BLUE, GREY, RED = "#0072B2", "#B0B0B0", "#D55E00"


def show_draws(
    axes: Axes, draws: Tensor, exact: Tensor, color: str, title: str
) -> None:
    c2st = two_sample_scores(draws, exact).c2st
    for some, shade in ((draws, color), (exact, GREY)):
        axes.plot(*some[:NUM_SHOWN].T, ".", ms=1.5, color=shade, rasterized=True)
    axes.set_title(f"{title}: C2ST {c2st:.2f}", fontsize=10, loc="left")
    middle, reach = exact.mean(dim=0), 5 * exact.std(dim=0).max()
    axes.set_xlim(*(middle[0] + reach * torch.tensor([-1, 1])).tolist())
    axes.set_ylim(*(middle[1] + reach * torch.tensor([-1, 1])).tolist())
    axes.set_xlabel("$\\theta_1$")
    print(f"{title}: C2ST {c2st:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--num-simulations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seed: int = options.seed
    print_conditions(describe_commit(), seed)
    task: Any = TwoMoons()
    with seeded(seed):
        theta = task.prior.sample((options.num_simulations,))
        x = task.simulate(theta)
        true = task.prior.sample((1,))
        x_o = task.simulate(true)
        trainer = BASES["NPE, one Gaussian"](prior=task.prior, **QUIET)
        density = trainer.append_simulations(theta, x).train()
        alone = trainer.build_posterior(density).sample(
            (NUM_DRAWS,), x=x_o, show_progress_bars=False
        )
    corrected = AALR(task.prior, base=density, **QUIET)
    estimator = corrected.append_simulations(theta, x).train(seed=seed)
    draws = corrected.build_posterior().sample(
        (NUM_DRAWS,), x=x_o, seed=seed, min_ess=5_000.0, show_progress_bars=False
    )
    exact = task.sample_posterior(NUM_DRAWS, x_o, seed=seed)

    def log_ratio(theta: Tensor, x: Tensor) -> Tensor:
        log_density = density.log_prob(theta.unsqueeze(0), condition=x).squeeze(0)
        return log_density.detach() - task.prior.log_prob(theta)

    figure = Figure(figsize=(9, 3), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    show_draws(first, alone, exact, RED, "NPE, one Gaussian")
    show_draws(second, draws, exact, BLUE, "the same, corrected")
    first.set_ylabel("$\\theta_2$")
    third.plot([0, 1], [0, 1], color=GREY, lw=1)
    for name, ratio, color in (
        ("NPE", log_ratio, RED),
        ("corrected", estimator, BLUE),
    ):
        found = ratio_roc(
            ratio,
            task.simulate,
            task.prior,
            true[0],
            num_simulations=NUM_TESTED,
            seed=seed,
        )
        print(f"{name}: {found.verdict} ({found.effective_sample_size:.0f} weights)")
        verdict = {True: "passes", False: "fails", None: "not judged"}[found.passed]
        label = f"{name}: AUC {found.auc:.2f}, {verdict}"
        third.plot(*found.roc_curve, color=color)
        third.lines[-1].set_label(label)
    third.set_title("ROC test of the ratio", fontsize=10, loc="left")
    third.set(xlabel="false positives", ylabel="true positives", aspect="equal")
    third.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.figure, dpi=150)


if __name__ == "__main__":
    main()
