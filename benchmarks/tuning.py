"""Measure what tuning by hypergradients does, on the digits that scikit-learn ships.

    python benchmarks/tuning.py weights    # a penalty for each of a million weights
    python benchmarks/tuning.py cost       # joint tuning against plain training
    python benchmarks/tuning.py distil     # a data set of one image a class
    python benchmarks/tuning.py augment    # an augmentation network against others

Each is an experiment of Lorraine, Vicol & Duvenaud (2020), arXiv:1911.02590, at the
size of these data: 1,797 images of 8 × 8. What is tuned sees training and tuning
images; test images are looked at once, at the end. `--figure FILE` draws loss against
time, for all but `cost`. Time is that of the processor, which other work on a machine
changes less than the wall's.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tuning_digits import (
    Curve,
    build_network,
    build_search,
    measure_error,
    run,
    split_digits,
)
from tuning_images import compare_augmentations, distil

from sbi_aalr.tuning import WeightPenalty

# A penalty for each weight.


def tune_weights(seed: int, num_steps: int = 100) -> Curve:
    """As many penalties as weights fit a small tuning set whole."""
    data = split_digits(50, 50, seed)
    network = build_network(1_000, 1_000, seed=seed)
    penalty = WeightPenalty(network, "weight", start=1e-5)
    count = sum(p.numel() for p in penalty.parameters())

    def compute_loss() -> Tensor:
        return cross_entropy(network(data.training[0]), data.training[1]) + penalty(
            network
        )

    search = build_search(network, penalty, compute_loss, data, 0.1, inner_steps=20)
    first = run(search, 1)[1][0]
    before = measure_error(network, data.test)
    curve = run(search, num_steps)
    right = 1 - measure_error(network, data.tuning)
    print(
        "| hyperparameters | tuning loss, before | after | tuning accuracy | seconds |"
    )
    print("|---|---|---|---|---|")
    print(
        f"| {count:,} | {first:.2f} | {curve[1][-1]:.4f} | {right:.1%} | "
        f"{curve[0][-1]:.0f} |"
    )
    after = measure_error(network, data.test)
    print(f"\nTest error {before:.1%} after the first step, {after:.1%} at the end.")
    return curve


# Cost.


def fit_for_cost(kind: str, seed: int, num_steps: int = 20, inner: int = 20) -> None:
    """Print seconds of the processor for each inner step, and peak memory in MiB."""
    data = split_digits(50, 500, seed)
    network = build_network(1_000, 1_000, seed=seed)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if kind == "plain":
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)

        def step() -> None:
            for _ in range(inner):
                optimizer.zero_grad()
                cross_entropy(network(data.training[0]), data.training[1]).backward()
                optimizer.step()

    else:
        penalty = WeightPenalty(network, "weight", start=1e-5)

        def compute_loss() -> Tensor:
            value = cross_entropy(network(data.training[0]), data.training[1])
            return value + penalty(network)

        search = build_search(
            network, penalty, compute_loss, data, 0.1, inner_steps=inner
        )

        def step() -> None:
            search.run(1)

    step()
    started = time.process_time()
    for _ in range(num_steps):
        step()
    seconds = (time.process_time() - started) / num_steps / inner
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, peak / 1024, (peak - loaded) / 1024)


def compare_cost(seed: int, repetitions: int = 3) -> None:
    """Joint tuning of a million penalties against plain training."""
    rows: dict[str, list[list[float]]] = {"plain": [], "joint": []}
    for _ in range(repetitions):
        for kind, values in rows.items():
            command = [sys.executable, __file__, "cost", "--kind", kind]
            command += ["--seed", str(seed)]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            values.append([float(value) for value in out.stdout.split()])
    middle = {
        kind: [statistics.median(column) for column in zip(*values, strict=True)]
        for kind, values in rows.items()
    }
    print("| | inner step, ms | peak memory, MiB | of it above what loading takes |")
    print("|---|---|---|---|")
    for kind, (seconds, peak, above) in middle.items():
        print(f"| {kind} | {1e3 * seconds:.1f} | {peak:.0f} | {above:.0f} |")
    ratios = [b / a for a, b in zip(middle["plain"], middle["joint"], strict=True)]
    print("| joint ÷ plain | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")


def draw(curve: Curve, path: Path) -> None:
    """Draw the held-out loss against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(*curve, color="#0072B2")
    axes.set(xlabel="processor time, s", ylabel="held-out loss, nats")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["weights", "cost", "distil", "augment"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5, help="of augment")
    parser.add_argument("--kind", choices=["plain", "joint"], help="of cost, inside")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    given = parser.parse_args()
    if given.what == "cost":
        if given.kind:
            fit_for_cost(given.kind, given.seed)
        else:
            compare_cost(given.seed)
        return
    if given.what == "augment":
        curve = compare_augmentations(given.seeds, given.seed)
    else:
        curve = {"weights": tune_weights, "distil": distil}[given.what](given.seed)
    if given.figure:
        draw(curve, given.figure)


if __name__ == "__main__":
    main()
