"""How long it takes to simulate and to train at the same time.

    python benchmarks/overlap.py                    # 10 ms a simulation, 2 workers
    python benchmarks/overlap.py --num-simulations 8000 --seconds 0.002

Each simulation waits. First all are made into a store, then the estimator is fitted to
what is there, then both at once: the wall time should be that of the longer one. On a
machine that others use, too, compare what the trainer computes with its wall time.

With `--base auto` the structures are stacked when all has come, which takes some
seconds more, of however many simulations.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sbi_aalr import AALR
from sbi_aalr.pools import own_processes
from sbi_aalr.simulation import fill_store
from sbi_aalr.simulation.store import SimulationStore
from sbi_aalr.simulators import TwoMoons


class Slow:
    """A simulator that takes some seconds for each row."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.simulate = TwoMoons().simulate

    def __call__(self, theta: Tensor) -> Tensor:
        """Simulate a batch, shape `(N, 2)` -> `(N, 2)`."""
        time.sleep(self.seconds * len(theta))
        return self.simulate(theta)


def measure(what: str, act: Callable[[], object]) -> float:
    """Print and return the wall time, s, beside the processor's of this process."""
    started, busy = time.perf_counter(), time.process_time()
    act()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    print(f"{what:18s} {seconds:6.1f} s, of which the trainer computes {busy:6.1f} s")
    return seconds


def main() -> None:
    """Print the three times, and the ratio of the last to the longer one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-simulations", type=int, default=6_000)
    parser.add_argument("--seconds", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--num-passes", type=int, default=None)
    parser.add_argument("--base", choices=("auto", "none"), default="none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    count, prior = options.num_simulations, TwoMoons().prior
    slow = Slow(options.seconds)

    def train(**where: object) -> None:
        base = None if options.base == "none" else options.base
        trainer = AALR(prior, base=base, show_progress_bars=False)
        settings = {"num_passes": options.num_passes, "seed": 1}
        trainer.train_online(slow, count, **settings, **where)

    with tempfile.TemporaryDirectory() as folder:
        # Processes and the first optimizer take seconds to begin.
        warm = AALR(prior, show_progress_bars=False)
        warm.train_online(TwoMoons().simulate, 200, num_passes=1)
        store = SimulationStore(Path(folder) / "alone.zarr")
        with own_processes(options.workers) as executor:
            list(executor.map(Slow(0.0), [torch.zeros(2, 2)] * options.workers))
            simulating = measure(
                "simulating alone",
                lambda: fill_store(
                    store, slow, prior, count, seed=1, executor=executor
                ),
            )
            training = measure("training alone", lambda: train(store=store))
            other = Path(folder) / "both.zarr"
            both = measure("both", lambda: train(store=other, executor=executor))
    print(f"ratio to the longer one {both / max(simulating, training):.2f}")


if __name__ == "__main__":
    main()
