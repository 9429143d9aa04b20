"""Score methods on sbibm's ten tasks, against its reference draws and published scores.

    python benchmarks/sbibm.py --tasks two_moons slcp --budgets 1000 10000
    python benchmarks/sbibm.py --tasks slcp --methods aalr:base=None nre_b
    python benchmarks/sbibm.py --methods exact --budgets 0  # our exact draws
    python benchmarks/sbibm.py --own --observations 1 3     # for trying things out
    python benchmarks/sbibm.py --keep runs/fitted           # keep fits, and use them
    python benchmarks/sbibm.py --tasks                      # the table so far
    python benchmarks/sbibm.py --tasks --figure sbibm.png   # and drawn

A method is trained once for each task and budget, on simulations of the seed, with its
defaults. It is then asked for 10,000 converged draws for each observation, whose C2ST
is that of sbibm: sbi's perceptron. A row is written as soon as it is known, and what
stands in the file is not done again. Choices are to be made with `--own`: observations
of this package, with references of this package.
"""

import argparse
import ast
import math
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sbi.inference.posteriors.base_posterior import NeuralPosterior
from sbibm_data import (
    BUDGETS,
    CACHE,
    PUBLISHED,
    REPORTED,
    TASK_NAMES,
    Published,
    load_observation,
    make_task,
    published,
    score,
)
from sbibm_table import (
    FIELDS,
    KEY,
    append_row,
    draw_figure,
    print_table,
    read_rows,
)

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.comparison import METHODS, Method
from sbi_aalr.comparison.methods import build_posterior, draw, fit_network
from sbi_aalr.comparison.metrics import Mixing, measure_mixing
from sbi_aalr.comparison.tasks import observe
from sbi_aalr.seeding import seeded

__all__ = ["load_observation", "make_task", "published", "score"]

NUM_DRAWS = 10_000
# Until the draws are worth as many independent ones. A classifier learns those that
# repeat by heart: with half of them it finds up to 0.1 more than there is.
SAMPLING = {"min_ess": 10_000.0, "show_progress_bars": False}
# Exact draws of this package in place of a method, to check simulators and references.
EXACT = "exact"


class Cell(NamedTuple):
    """One training; `source` says whose observations it is scored on."""

    source: str
    task: str
    budget: int
    method: str
    seed: int

    def key(self, observation: int) -> tuple[str, ...]:
        return tuple(str(value) for value in (*self, observation))


def make_method(text: str) -> Method:
    """Read a name of the comparison; arguments of `AALR` follow a colon."""
    name, _, arguments = text.partition(":")
    known = [name for name, method in METHODS.items() if method.rounds == 1]
    if name not in known or (arguments and name != "aalr"):
        raise ValueError(
            f"`--methods` must be of {', '.join([EXACT, *known])}, or aalr with "
            f"arguments such as aalr:base=None, got {text!r}."
        )
    if not arguments:
        return METHODS[name]
    pairs = [pair.split("=", 1) for pair in arguments.split(",")]
    return Method(partial(AALR, **{key: _read_value(value) for key, value in pairs}))


def load(cell: Cell, observation: int) -> Published:
    if cell.source == "sbibm":
        return load_observation(cell.task, observation)
    made = observe(
        CACHE / "own", cell.task, make_task(cell.task), observation, NUM_DRAWS
    )
    return Published(made.x, made.theta, made.reference)


def fit(
    cell: Cell, task: Any, out: Path, keep: Path | None, commit: str
) -> tuple[NeuralPosterior, str, str]:
    """Train, or take what was trained and kept for other observations of the cell.

    Returns:
        The posterior, seconds of its training, and the commit that it was trained with.
    """
    folder = None
    if keep is not None and cell.method == "aalr":
        folder = keep / f"{cell.task}-{cell.budget}-{cell.seed}"
        rows = read_rows(out).values()
        for row in rows if folder.exists() else ():
            if cell.key(0)[:-1] == tuple(row[name] for name in KEY[:-1]):
                posterior = MHPosterior.load(folder, prior=task.prior)
                return posterior, row["train_seconds"], row["commit"]
    method = make_method(cell.method)
    with seeded(cell.seed):
        network, seconds = fit_network(method, task, cell.budget)
        posterior = build_posterior(method, task, network)
    if folder is not None and isinstance(posterior, MHPosterior):
        posterior.save(folder)
    return posterior, f"{seconds:.1f}", commit


def run_cell(
    cell: Cell, observations: Sequence[int], out: Path, keep: Path | None, commit: str
) -> None:
    """Train, then sample and score one observation after the other."""
    known = {number: load(cell, number) for number in observations}
    task = make_task(cell.task)
    seconds, posterior = "0.0", None
    if cell.method != EXACT:
        posterior, seconds, commit = fit(cell, task, out, keep, commit)
    for number, observation in known.items():
        started = time.perf_counter()
        mixing = Mixing(math.nan, math.nan)
        with seeded(cell.seed):
            if posterior is None:
                draws = task.sample_posterior(
                    NUM_DRAWS, observation.x_o, seed=cell.seed
                )
            elif isinstance(posterior, MHPosterior):
                draws = posterior.sample(
                    (NUM_DRAWS,), x=observation.x_o, seed=cell.seed, **SAMPLING
                )
            else:
                draws = draw(posterior, NUM_DRAWS, observation.x_o)
        sampling = time.perf_counter() - started
        if posterior is not None:
            mixing = measure_mixing(posterior, draws)
        row = {
            **dict(zip(KEY, cell.key(number), strict=True)),
            "c2st": f"{score(draws, observation.reference):.5f}",
            "train_seconds": seconds,
            "sample_seconds": f"{sampling:.1f}",
            "max_rhat": f"{mixing.max_rhat:.4f}",
            "min_ess": f"{mixing.min_ess:.0f}",
            "commit": commit,
        }
        append_row(out, row)
        print(", ".join(f"{name} {row[name]}" for name in FIELDS[1:-1]), flush=True)


def run(options: argparse.Namespace, commit: str) -> int:
    """Go through all cells; return how many of them failed."""
    source = "own" if options.own else "sbibm"
    failures = 0
    for task in options.tasks:
        for budget in options.budgets:
            for method in options.methods:
                cell = Cell(source, task, budget, method, options.seed)
                done = read_rows(options.out)
                missing = [n for n in options.observations if cell.key(n) not in done]
                if not missing:
                    continue
                try:
                    run_cell(cell, missing, options.out, options.keep, commit)
                except Exception as error:
                    failures += 1
                    print(f"{cell}: {type(error).__name__}: {error}", file=sys.stderr)
    return failures


def describe_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    folder = Path(__file__).parent
    return subprocess.check_output(command, cwd=folder, text=True).strip()


def print_conditions(commit: str, seed: int) -> None:
    """Print what the figures that follow were measured with."""
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, commit {commit}, seed {seed}\n"
    )


def _read_value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=TASK_NAMES, choices=TASK_NAMES)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--observations", nargs="+", type=int, default=REPORTED)
    parser.add_argument("--methods", nargs="+", default=["aalr"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/sbibm.csv"))
    parser.add_argument("--keep", type=Path, help="folder of AALR's posteriors")
    parser.add_argument("--figure", type=Path, help="picture to draw")
    parser.add_argument("--published", type=Path, default=PUBLISHED)
    options = parser.parse_args()
    try:
        for method in set(options.methods) - {EXACT}:
            make_method(method)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    if not options.own and not set(options.observations) <= set(REPORTED):
        parser.error(f"`--observations` must be of {REPORTED}, or `--own` be given.")
    return options


def main() -> None:
    options = read_options()
    warnings.simplefilter("ignore")
    commit = describe_commit()
    print_conditions(commit, options.seed)
    failures = run(options, commit)
    print()
    source = "own" if options.own else "sbibm"
    rows = list(read_rows(options.out).values())
    seed = str(options.seed)
    rows = [row for row in rows if row["seed"] == seed]
    print_table(rows, source, options.published)
    if options.figure is not None:
        draw_figure(rows, options.figure, options.published)
    sys.exit(min(failures, 1))


if __name__ == "__main__":
    main()
