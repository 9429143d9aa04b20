"""Score what the table of `sbibm.py` leaves out, on the same observations.

    python benchmarks/sbibm_variants.py bases      # sbi's NPE and NLE, and corrected
    python benchmarks/sbibm_variants.py trials     # SLCP, its four trials declared
    python benchmarks/sbibm_variants.py streamed   # SLCP, 1,000,000 in five minutes
    python benchmarks/sbibm_variants.py rounds     # truncated rounds, one observation
    python benchmarks/sbibm_variants.py coverage --fitted runs/fitted  # of `--keep`

C2ST is that of `sbibm.py`. Rows of Markdown are printed as soon as they are known.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from sbi.inference import NLE_A, NPE_C
from sbi.inference.posteriors import MCMCPosterior
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbi.neural_nets import likelihood_nn, posterior_nn
from sbibm import NUM_DRAWS, SAMPLING, describe_commit, print_conditions
from sbibm_data import (
    REPORTED,
    TASK_NAMES,
    load_observation,
    make_task,
    published,
    score,
)
from torch import Tensor

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.comparison.methods import draw
from sbi_aalr.diagnostics import expected_coverage
from sbi_aalr.seeding import seeded
from sbi_aalr.trainer.no_tracker import NoTracker

BUDGET = 10_000
# Trainers of sbi's whose networks serve as a base, and whether that is too simple.
BASES: dict[str, Callable[..., Any]] = {
    "NPE, one Gaussian": partial(
        NPE_C, density_estimator=posterior_nn("mdn", num_components=1)
    ),
    "NLE, one Gaussian": partial(
        NLE_A, density_estimator=likelihood_nn("mdn", num_components=1)
    ),
    "NPE": NPE_C,
    "NLE": NLE_A,
}
# Written down before any of them was run: every task whose posterior is known in
# closed form or by long chains and has a published score of each sequential method.
ROUND_CELLS = [
    (task, budget)
    for task in (
        "two_moons",
        "slcp",
        "gaussian_mixture",
        "gaussian_linear_uniform",
        "sir",
    )
    for budget in (1_000, 10_000)
]
ROUND_OBSERVATION = 2
QUIET: dict[str, Any] = {"show_progress_bars": False, "tracker": NoTracker()}


def sample(posterior: NeuralPosterior, x_o: Tensor, seed: int) -> Tensor:
    """Draw what is scored; of our posterior until the chains have converged."""
    with seeded(seed):
        if isinstance(posterior, MHPosterior):
            return posterior.sample((NUM_DRAWS,), x=x_o, seed=seed, **SAMPLING)
        return draw(posterior, NUM_DRAWS, x_o)


def score_all(
    posterior: NeuralPosterior,
    task: str,
    seed: int,
    observations: Sequence[int],
    shape: tuple[int, ...] = (-1,),
) -> list[float]:
    """Score observations, whose data are brought into a shape."""
    scores = []
    for number in observations:
        known = load_observation(task, number)
        draws = sample(posterior, known.x_o.reshape(1, *shape), seed)
        scores.append(score(draws, known.reference))
    return scores


def show(*cells: object) -> None:
    texts = [f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells]
    print(f"| {' | '.join(texts)} |", flush=True)


def show_header(*names: str) -> None:
    show(*names)
    show(*["---"] * len(names))


def compare_bases(
    seed: int, observations: Sequence[int], titles: Sequence[str], tasks: Sequence[str]
) -> None:
    show_header("task", "base", "alone", "corrected", "each, alone", "each, corrected")
    for title in titles:
        make = BASES[title]
        for name in [name for name in ("two_moons", "slcp") if name in tasks]:
            task = make_task(name)
            with seeded(seed):
                theta = task.prior.sample((BUDGET,))
                x = task.simulate(theta)
                trainer = make(prior=task.prior, **QUIET)
                density = trainer.append_simulations(theta, x).train()
                posterior = trainer.build_posterior(density)
                if isinstance(posterior, MCMCPosterior):
                    # The same target, by chains that say when they have converged.
                    posterior = MHPosterior(posterior.potential_fn, task.prior)
                alone = score_all(posterior, name, seed, observations)
                corrected = AALR(task.prior, base=density, **QUIET)
                corrected.append_simulations(theta, x).train(seed=seed)
            mended = score_all(corrected.build_posterior(), name, seed, observations)
            show(name, title, mean(alone), mean(mended), _list(alone), _list(mended))


def score_trials(seed: int, observations: Sequence[int]) -> None:
    task = make_task("slcp")
    show_header("SLCP, 10,000", "C2ST", "each", "training, s")
    with seeded(seed):
        theta = task.prior.sample((BUDGET,))
        x = task.simulate(theta)
    for title, settings, shape in (
        ("as a vector", {}, (8,)),
        ("four trials of two numbers", {"exchangeable": True}, (4, 2)),
    ):
        started = time.process_time()
        trainer = AALR(task.prior, **settings, **QUIET)
        trainer.append_simulations(theta, x.reshape(-1, *shape)).train(seed=seed)
        seconds = time.process_time() - started
        scores = score_all(trainer.build_posterior(), "slcp", seed, observations, shape)
        show(title, mean(scores), _list(scores), f"{seconds:.0f}")


def score_streamed(
    seed: int, observations: Sequence[int], num_simulations: int, time_limit: float
) -> None:
    task = make_task("slcp")
    show_header("SLCP, streamed", "C2ST", "each", "training, s", "of one core, s")
    started, used = time.perf_counter(), time.process_time()
    trainer = AALR(task.prior, **QUIET)
    trainer.train_online(
        task.simulate, num_simulations=num_simulations, time_limit=time_limit, seed=seed
    )
    seconds = time.perf_counter() - started
    used = time.process_time() - used
    scores = score_all(trainer.build_posterior(), "slcp", seed, observations)
    show(
        f"{num_simulations:,}",
        mean(scores),
        _list(scores),
        f"{seconds:.0f}",
        f"{used:.0f}",
    )


def compare_rounds(seed: int, path: Path, tasks: Sequence[str]) -> None:
    methods = ("SNPE", "SNLE", "SNRE")
    show_header("task", "simulations", "truncated AALR", *methods, "training, s")
    for name, budget in [cell for cell in ROUND_CELLS if cell[0] in tasks]:
        task = make_task(name)
        known = load_observation(name, ROUND_OBSERVATION)
        others = published(name, budget, path, (ROUND_OBSERVATION,))
        started = time.process_time()
        trainer = AALR(task.prior, **QUIET)
        trainer.train_truncated(
            task.simulate,
            known.x_o,
            num_simulations=budget,
            seed=seed,
        )
        seconds = time.process_time() - started
        draws = sample(trainer.build_posterior(), known.x_o, seed)
        theirs = [others[method] for method in methods]
        show(
            name,
            f"{budget:,}",
            score(draws, known.reference),
            *theirs,
            f"{seconds:.0f}",
        )


def test_coverage(seed: int, fitted: Path, num_observations: int) -> None:
    show_header("task", "regions of 95 %", "least p-value", "verdict", "seconds")
    for name in TASK_NAMES:
        folder = fitted / f"{name}-{BUDGET}-{seed}"
        if not folder.exists():
            show(name, "no posterior kept", "", "", "")
            continue
        task = make_task(name)
        posterior = MHPosterior.load(folder, prior=task.prior)
        with seeded(seed + 20_000):
            theta = task.prior.sample((num_observations,))
            x = task.simulate(theta)
        started = time.process_time()
        found = expected_coverage(
            posterior, theta, x, seed=seed, show_progress_bars=False
        )
        show(
            name,
            f"{found.coverage[94]:.1%}",
            f"{found.p_values.min():.2g} of {len(found.p_values)}",
            found.verdict.split(":")[0],
            f"{time.process_time() - started:.0f}",
        )


def _list(scores: list[float]) -> str:
    return " ".join(f"{score:.3f}" for score in scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "case", choices=["bases", "trials", "streamed", "rounds", "coverage"]
    )
    parser.add_argument("--observations", nargs="+", type=int, default=REPORTED)
    parser.add_argument("--tasks", nargs="+", default=TASK_NAMES, choices=TASK_NAMES)
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=BASES)
    parser.add_argument("--fitted", type=Path, default=Path("runs/fitted"))
    parser.add_argument("--num-observations", type=int, default=300)
    parser.add_argument("--num-simulations", type=int, default=1_000_000)
    parser.add_argument("--time-limit", type=float, default=295.0)
    parser.add_argument("--published", type=Path, help="table with a row for each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print_conditions(describe_commit(), options.seed)
    if options.case == "bases":
        compare_bases(options.seed, options.observations, options.bases, options.tasks)
    elif options.case == "trials":
        score_trials(options.seed, options.observations)
    elif options.case == "streamed":
        score_streamed(
            options.seed,
            options.observations,
            options.num_simulations,
            options.time_limit,
        )
    elif options.case == "rounds":
        if options.published is None:
            parser.error("`--published` is needed: scores of each observation.")
        compare_rounds(options.seed, options.published, options.tasks)
    else:
        test_coverage(options.seed, options.fitted, options.num_observations)


if __name__ == "__main__":
    main()
