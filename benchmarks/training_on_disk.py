"""What it costs to train from a store, and to keep checkpoints.

    python benchmarks/training_on_disk.py

Data of more bytes than a trainer holds in memory are trained on twice, as tensors and
from a store, each in a process of its own: the wall time of training and the memory at
its peak, above that of a process that has imported all. Then the default recipe is
trained with checkpoints as often as they may be, and without: how long one takes to
write, how large it is, and what they add to the wall time.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch.distributions import Independent, Normal

from sbi_aalr import AALR
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulators import SLCP
from sbi_aalr.trainer import journal

PRIOR = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
BLOCK_ROWS = 5_000


def make_data(rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Parameters `(rows, 4)` and data `(rows, width)`."""
    theta = PRIOR.sample((rows,))
    return theta, theta.repeat(1, width // 4) + torch.randn(rows, width)


def measure_way(way: str, folder: Path, epochs: int) -> None:
    """Print seconds of training and megabytes at the peak, for one way."""
    store = SimulationStore(folder)
    trainer = AALR(PRIOR, base=None, show_progress_bars=False)
    # What is imported on first use counts for neither.
    trainer.append_simulations(*store[:200])
    warnings.simplefilter("ignore")
    trainer.train(max_num_epochs=1, seed=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer = AALR(PRIOR, base=None, show_progress_bars=False)
    if way == "store":
        trainer.append_simulations(store)
    else:
        trainer.append_simulations(*store[:])
    started = time.perf_counter()
    trainer.train(max_num_epochs=epochs, seed=1)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{way:8s} {seconds:7.1f} s {peak / 1024:8.0f} MB")


def measure_checkpoints(num_simulations: int) -> None:
    """Print what checkpoints cost."""
    seconds: list[float] = []
    write = journal.Journal._write

    def timed(self: journal.Journal, fits: object) -> None:
        started = time.perf_counter()
        write(self, fits)
        seconds.append(time.perf_counter() - started)

    journal.Journal._write = timed
    walls, task = [], SLCP()
    with tempfile.TemporaryDirectory() as folder:
        for settings in ({}, {"checkpoint": folder, "checkpoint_every": 0.001}):
            trainer = AALR(task.prior, base=None, show_progress_bars=False)
            started = time.perf_counter()
            trainer.train_online(
                task.simulate, num_simulations, num_passes=2, seed=1, **settings
            )
            walls.append(time.perf_counter() - started)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    print(f"without checkpoints {walls[0]:.1f} s, with {len(seconds)} {walls[1]:.1f} s")
    mean = sum(seconds) / len(seconds)
    print(f"one takes {1000 * mean:.0f} ms; {size / 2**20:.1f} MB in the end")
    print(f"writing took {sum(seconds) / walls[1]:.1%} of the time")


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--width", type=int, default=3_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num-simulations", type=int, default=50_000)
    parser.add_argument("--way", choices=("store", "tensors"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.way:
        measure_way(options.way, options.folder, options.epochs)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sims.zarr"
        store = SimulationStore(path)
        for _ in range(options.rows // BLOCK_ROWS):
            store.append(*make_data(BLOCK_ROWS, options.width))
        size = 4 * options.rows * options.width / 2**20
        print(f"{options.rows:,} rows of {options.width:,} numbers, {size:.0f} MB")
        arguments = [sys.executable, __file__, "--folder", path, "--epochs"]
        for way in ("tensors", "store"):
            subprocess.run(
                [*map(str, arguments), str(options.epochs), "--way", way], check=True
            )
    measure_checkpoints(options.num_simulations)


if __name__ == "__main__":
    main()
