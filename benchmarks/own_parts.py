"""Measure parts that a library has too: what decided whose is used.

    python benchmarks/own_parts.py --seed 1

Ours and the library's take turns on one thread. A line shows the median time of each,
by the processor's clock, which a busy machine changes less than the wall's; the median
of the library's time ÷ ours, with its quartiles; and how the results differ. Muon and
the average of weights work on the default network for 1,000,000 simulations of SLCP.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import torch
from arviz_stats.base import array_stats
from torch.nn.functional import cosine_similarity
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    SubsetRandomSampler,
    TensorDataset,
)

from sbi_aalr.networks import GatedBlock, two_towers
from sbi_aalr.persistence.csv_rows import read_csv_rows
from sbi_aalr.training.loaders import TensorLoader
from sbi_aalr.training.muon import Muon
from sbi_aalr.training.recipe import find_entry
from sbi_aalr.training.schedule import WeightAverage

NUM_ROWS = 100_000
BATCH_SIZE = 256
# What must be refused, and the line to be named.
WRONG_FILES = {
    "1,2\n1,2,3\n": 2,
    "1,2\n1\n": 2,
    "1,2\n1,two\n": 2,
    "1,2\n1,\n": 2,
    "1,2\n1,NA\n": 2,
    "1,2\n1,true\n": 2,
    "1,2\n1,inf\n": 2,
    "1,2\n1,1_000\n": 2,
    "1 2\n3 4\n": 2,
    "1;2\n3;4\n": 2,
    "# first\n1,2\n\n3,4\n5,six\n": 5,
}


def measure(
    name: str, ours: Callable, library: Callable, note: str, repetitions: int
) -> None:
    """Print a line of the table."""
    seconds = []
    for _ in range(repetitions):
        pair = []
        for call in (ours, library):
            started = time.process_time()
            call()
            pair.append(time.process_time() - started)
        seconds.append(pair)
    own, other = (1e3 * value for value in np.median(seconds, axis=0))
    low, middle, high = statistics.quantiles([b / a for a, b in seconds], n=4)
    ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    print(f"| {name} | {own:.3g} ms | {other:.3g} ms | {ratio} | {note} |", flush=True)


def build_estimator(seed: int):
    torch.manual_seed(seed)
    towers = two_towers(**find_entry(1_000_000).towers)
    return towers(torch.randn(64, 5), torch.randn(64, 8))


def measure_muon(seed: int, repetitions: int) -> None:
    recipe = find_entry(1_000_000).recipe
    rate, decay = recipe.matrix_learning_rate, recipe.weight_decay
    blocks = [m for m in build_estimator(seed).modules() if isinstance(m, GatedBlock)]
    starts = [layer.weight for block in blocks for layer in (block.up, block.down)]
    ours, library = ([w.detach().clone() for w in starts] for _ in range(2))

    def draw_gradients() -> None:
        for first, second in zip(ours, library, strict=True):
            first.grad = second.grad = torch.randn_like(first)

    def make_optimizers(decay: float):
        # torch has the same momentum, Nesterov's, and as many iterations by default.
        return (
            Muon(ours, rate, weight_decay=decay),
            torch.optim.Muon(library, rate, weight_decay=decay),
        )

    optimizers = make_optimizers(0.0)
    before = []
    for _ in range(10):
        before = [torch.cat([m.flatten() for m in side]) for side in (ours, library)]
        draw_gradients()
        for optimizer in optimizers:
            optimizer.step()
    after = [torch.cat([m.flatten() for m in side]) for side in (ours, library)]
    cosine = cosine_similarity(after[0] - before[0], after[1] - before[1], dim=0)
    first, second = make_optimizers(decay)
    note = f"cosine of tenth updates {cosine:.5f}"
    measure("Muon, step", first.step, second.step, note, repetitions)


def measure_average(seed: int, repetitions: int) -> None:
    estimator = build_estimator(seed)

    @torch.no_grad()
    def average_last(averages, weights, num_averaged) -> None:
        share = 1 / max(1.0, 0.03 * (int(num_averaged) + 1))
        torch._foreach_lerp_(averages, weights, share)

    ours = WeightAverage(estimator)
    library = AveragedModel(estimator, multi_avg_fn=average_last)
    weights = list(estimator.parameters())
    for _ in range(100):
        with torch.no_grad():
            for weight in weights:
                weight.add_(0.01 * torch.randn_like(weight))
        ours.update()
        library.update_parameters(estimator)
    with ours.applied():
        pairs = list(zip(weights, library.module.parameters(), strict=True))
        is_same = all(torch.equal(first, second) for first, second in pairs)
    measure(
        "average of weights, step",
        ours.update,
        lambda: library.update_parameters(estimator),
        f"{'the same' if is_same else 'other'} weights",
        repetitions,
    )


def measure_loader(seed: int, repetitions: int) -> None:
    torch.manual_seed(seed)
    tensors = [torch.randn(NUM_ROWS, 5), torch.randn(NUM_ROWS, 8)]
    rows = torch.arange(NUM_ROWS)
    ours = TensorLoader(tensors, rows, BATCH_SIZE)
    sampler = BatchSampler(SubsetRandomSampler(rows.tolist()), BATCH_SIZE, True)
    # Without a generator of its own it draws a seed for workers before the order.
    library = DataLoader(
        TensorDataset(*tensors),
        sampler=sampler,
        batch_size=None,
        generator=torch.Generator(),
    )
    passes = []
    for loader in (ours, library):
        torch.manual_seed(seed)
        passes.append(torch.cat([theta for theta, _ in loader]))
    note = f"{'the same' if torch.equal(*passes) else 'another'} order of rows"
    measure(
        f"loader, pass of {len(ours)} batches",
        lambda: [None for _ in ours],
        lambda: [None for _ in library],
        note,
        repetitions,
    )


def correlate(chains: np.ndarray) -> np.ndarray:
    """Autocorrelation at all lags, 1 for a chain that does not move."""
    centred = chains - chains.mean(axis=1, keepdims=True)
    size = 2 * chains.shape[1]
    power = np.abs(np.fft.rfft(centred, n=size, axis=1)) ** 2
    covariance = np.fft.irfft(power, n=size, axis=1)[:, : chains.shape[1]]
    variance = covariance[:, :1]
    ones = np.ones_like(covariance)
    return np.divide(covariance, variance, out=ones, where=variance > 0)


def measure_autocorrelation(seed: int, repetitions: int) -> None:
    chains = np.random.default_rng(seed).normal(size=(100, 1_000)).cumsum(axis=1)
    difference = np.abs(correlate(chains) - array_stats.autocorr(chains)).max()
    stuck = array_stats.autocorr(np.zeros((1, 10)))[0, 0]
    measure(
        "autocorrelation, 100 chains of 1,000 draws",
        lambda: correlate(chains),
        lambda: array_stats.autocorr(chains),
        f"differ by {difference:.0e}; {stuck} where none moves, ours 1",
        repetitions,
    )


def read_with_pandas(path: Path) -> torch.Tensor:
    """As strict as pandas can be, but for a header, which it does not find itself."""
    frame = pandas.read_csv(
        path,
        header=None,
        dtype=np.float32,
        comment="#",
        skipinitialspace=True,
        keep_default_na=False,
    )
    return torch.from_numpy(frame.to_numpy())


def count_refused(path: Path, read: Callable) -> str:
    """How many wrong files a reader refuses, and how often it names the line."""
    refused = named = 0
    for content, line in WRONG_FILES.items():
        path.write_text(content)
        try:
            read(path)
        except ValueError as error:
            refused += 1
            named += f"line {line}" in str(error)
    return f"{refused} refused, {named} by line"


def measure_csv(seed: int, repetitions: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        counts = [
            count_refused(path, read)
            for read in (lambda path: read_csv_rows(path, 2), read_with_pandas)
        ]
        values = np.random.default_rng(seed).normal(size=(NUM_ROWS, 10))
        np.savetxt(path, values, delimiter=",")
        measure(
            "CSV file, 100,000 rows of 10",
            lambda: read_csv_rows(path, 10),
            lambda: read_with_pandas(path),
            f"{len(WRONG_FILES)} wrong files: {counts[0]}; pandas {counts[1]}",
            repetitions,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    print("| part | ours | library | library ÷ ours | results |")
    print("|---|---|---|---|---|")
    measure_muon(seed, 200)
    measure_average(seed, 300)
    measure_loader(seed, 50)
    measure_autocorrelation(seed, 300)
    measure_csv(seed, 20)


if __name__ == "__main__":
    main()
