"""Measure `train(tune=True)` against the default fit, and against searches by trial.

    python benchmarks/tuning_fits.py --simulations 1000 --seeds 1 2 3 4 5 --csv FILE
    python benchmarks/tuning_fits.py --base auto --methods plain tuned --csv FILE
    python benchmarks/tuning_fits.py --csv FILE --tasks        # the table so far
    python benchmarks/tuning_fits.py --csv FILE --tasks --figure FILE

Every method gets the same simulations, of which it holds out a tenth. `random` and
`tpe` (Optuna's, `pip install optuna`) search a weight decay for all and a dropout
rate, beginning with the default ones, for as many seconds of the processor as `tuned`
took; they keep the fit with the least held-out loss. `twice` is the plain fit with
twice the passes, as many steps as a tuned fit takes. What is compared is the loss on
4,096 fresh pairs, which nothing was chosen by: the sum of cross-entropy and InfoNCE in
batches of 128, nats. A row is written as soon as it is known, and what stands in the
file is not done again.
"""

import argparse
import csv
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from tuning_proposals import PROPOSALS

from sbi_aalr import AALR, RatioLoss
from sbi_aalr.seeding import derive_seed, seeded
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.simulators import SLCP, GaussianLinear, GaussianMixture, TwoMoons
from sbi_aalr.training import members, recipe

TASKS = {
    "two_moons": TwoMoons,
    "gaussian_linear": GaussianLinear,
    "gaussian_mixture": GaussianMixture,
    "slcp": SLCP,
}
METHODS = ("plain", "tuned", "random", "tpe", "twice")
KEY = ("task", "simulations", "base", "seed", "method")
FIELDS = (*KEY, "loss", "held_out_loss", "seconds", "trace", "notes")
NUM_FRESH, BATCH = 4_096, 128


class Fit(NamedTuple):
    """A fit, its held-out loss, seconds of the processor, and what is to be noted."""

    estimator: RatioEstimator
    held_out_loss: float
    seconds: float
    notes: str = ""


def simulate(task: Any, num_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    with seeded(seed):
        theta = task.prior.sample((num_rows,))
        return theta, task.simulate(theta)


@torch.no_grad()
def measure_loss(estimator: RatioEstimator, theta: Tensor, x: Tensor) -> float:
    """Mean loss of fresh pairs, nats."""
    parts = zip(theta.split(BATCH), x.split(BATCH), strict=True)
    losses = [RatioLoss().of_batch(estimator, Batch(t, None, d)) for t, d in parts]
    return float(torch.cat(losses).mean())


def fit(task: Any, pairs: tuple[Tensor, Tensor], base: str | None, **settings) -> Fit:
    trainer = AALR(task.prior, base=base, show_progress_bars=False)
    trainer.append_simulations(*pairs)
    started = time.process_time()
    estimator = trainer.train(**settings)
    seconds = time.process_time() - started
    chosen = trainer.summary["recipe"][-1]
    held_out = chosen.get("held_out_loss")
    if held_out is None:
        held_out = trainer.summary["best_validation_loss"][-1]
    notes = ""
    if settings.get("tune"):
        reports = trainer.summary["tuning"][-1]["structures"]
        kept = ["kept" if report["is_kept"] else "not kept" for report in reports]
        plain = sum(report["plain_seconds"] for report in reports)
        notes = f"{', '.join(kept)}; plain {plain:.1f} s"
        if base is None and reports[-1]["is_kept"]:
            held_out = reports[-1]["held_out_loss"]["tuned"]
    return Fit(estimator, held_out, seconds, notes)


def fit_twice_as_long(*arguments: Any, **settings: Any) -> Fit:
    """Fit with twice the passes of towers; densities keep theirs."""
    entries = [
        entry._replace(
            recipe=entry.recipe._replace(num_passes=2 * entry.recipe.num_passes)
        )
        for entry in recipe._ENTRIES
    ]
    with mock.patch.object(recipe, "_ENTRIES", entries):
        return fit(*arguments, **settings)


def fit_with(decay: float, dropout: float, *arguments: Any, **settings: Any) -> Fit:
    """Fit with one weight decay and one dropout rate for all networks."""
    entries = [
        entry._replace(
            towers={**entry.towers, "dropout": dropout},
            recipe=entry.recipe._replace(weight_decay=decay),
        )
        for entry in recipe._ENTRIES
    ]
    choose, list_members = members.choose_density_recipe, members.list_members

    def change(*given: Any, **more: Any) -> list[members.Member]:
        found = list_members(*given, **more)
        return [
            m
            if m.recipe is None
            else m._replace(settings={**m.settings, "dropout": dropout})
            for m in found
        ]

    with (
        mock.patch.object(recipe, "_ENTRIES", entries),
        mock.patch.object(
            members,
            "choose_density_recipe",
            lambda count: choose(count)._replace(weight_decay=decay),
        ),
        mock.patch("sbi_aalr.trainer.begin.list_members", change),
    ):
        return fit(*arguments, **settings)


def search(
    method: str, seconds: float, fresh: tuple[Tensor, Tensor], seed: int, *arguments
) -> tuple[Fit, list[tuple[float, float]]]:
    """Try until the seconds are over; the best fit, and fresh losses along the way."""
    proposals = PROPOSALS[method](seed)
    best, spent, trace, count = None, 0.0, [], 0
    while best is None or spent < seconds:
        if best is None:
            tried = fit(*arguments, seed=seed)
        else:
            decay, dropout, tell = next(proposals)
            tried = fit_with(decay, dropout, *arguments, seed=derive_seed(seed, count))
            tell(tried.held_out_loss)
        spent, count = spent + tried.seconds, count + 1
        if best is None or tried.held_out_loss < best.held_out_loss:
            best = tried
        trace.append((spent, measure_loss(best.estimator, *fresh)))
    return best._replace(seconds=spent, notes=f"{count} fits"), trace


def read_rows(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {tuple(row[k] for k in KEY): row for row in csv.DictReader(file)}


def append_row(path: Path, row: dict[str, Any]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def run(name: str, count: int, seed: int, given: argparse.Namespace) -> None:
    """Do what is not done yet for one set of simulations."""
    task = TASKS[name]()
    base = None if given.base == "none" else given.base
    pairs = simulate(task, count, seed)
    fresh = simulate(task, NUM_FRESH, seed + 1_000)
    for method in given.methods:
        done = read_rows(given.csv)
        key = (name, str(count), given.base, str(seed), method)
        if key in done:
            continue
        if method in PROPOSALS:
            seconds = float(done[(*key[:-1], "tuned")]["seconds"])
            found, trace = search(method, seconds, fresh, seed, task, pairs, base)
        else:
            train = fit_twice_as_long if method == "twice" else fit
            found = train(task, pairs, base, seed=seed, tune=method == "tuned")
            trace = [(found.seconds, measure_loss(found.estimator, *fresh))]
        row = {
            "loss": f"{trace[-1][1]:.5f}",
            "held_out_loss": f"{found.held_out_loss:.5f}",
            "seconds": f"{found.seconds:.2f}",
            "trace": json.dumps([[round(v, 4) for v in point] for point in trace]),
            "notes": found.notes,
        }
        append_row(given.csv, dict(zip(KEY, key, strict=True)) | row)
        print(*key, row["loss"], row["seconds"], row["notes"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--simulations", nargs="+", type=int, default=[1_000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--base", default="none", choices=["none", "auto"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for count in given.simulations:
        for seed in given.seeds:
            for name in given.tasks:
                run(name, count, seed, given)
    print_table(given.csv)
    if given.figure:
        draw(given.csv, given.figure)


def print_table(path: Path) -> None:
    """Means over seeds, and by how much `tuned` is lower than each."""
    rows = read_rows(path)
    cells = sorted({key[:3] for key in rows})
    print(f"| task | simulations | base | seeds | {' | '.join(METHODS)} |", end="")
    others = [method for method in METHODS if method != "tuned"]
    lower = " | ".join(f"lower than {method}" for method in others)
    print(f" {lower} | seconds, plain | tuned |")
    print("|" + "---|" * (6 + len(METHODS) + len(others)))
    for cell in cells:
        losses: dict[str, dict[str, float]] = {}
        seconds: dict[str, list[float]] = {}
        for key, row in rows.items():
            if key[:3] == cell:
                losses.setdefault(key[4], {})[key[3]] = float(row["loss"])
                seconds.setdefault(key[4], []).append(float(row["seconds"]))
        own = losses.get("tuned", {})
        means = [_average(list(losses.get(m, {}).values())) for m in METHODS]
        lower = [
            _average([other[s] - own[s] for s in own if s in other], has_error=True)
            for other in (losses.get(m, {}) for m in others)
        ]
        times = [_average(seconds.get(m, []), digits=0) for m in ("plain", "tuned")]
        print("|", " | ".join((*cell, str(len(own)), *means, *lower, *times)), "|")


def _average(values: list[float], has_error: bool = False, digits: int = 3) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.{digits}f}"
    if not has_error or len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def draw(path: Path, out: Path) -> None:
    """Draw fresh losses against time, a panel a task, of the first seed there is."""
    from matplotlib.figure import Figure

    rows = read_rows(path)
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    panels = figure.subplots(1, len(TASKS))
    inks = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#999999")
    colours = dict(zip(METHODS, inks, strict=True))
    for axes, name in zip(panels, TASKS, strict=True):
        for key, row in rows.items():
            if key[:4] != (name, "1000", "none", "1"):
                continue
            times, losses = zip(*json.loads(row["trace"]), strict=True)
            how = {"where": "post"} if len(times) > 1 else {}
            plot = axes.step if how else axes.plot
            plot(times, losses, "-o", ms=3, color=colours[key[4]], label=key[4], **how)
        axes.set(title=name, xlabel="processor time, s")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("loss on fresh pairs, nats")
    panels[-1].legend(frameon=False)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
