"""Simulating, training and sampling for minutes, with faults: nothing grows or stays.

`SBI_AALR_SOAK_SECONDS=1200` makes it twenty minutes.
"""

import errno
import gc
import os
import random
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, draw_pairs, simulate

from sbi_aalr import AALR, networks
from sbi_aalr.persistence import checkpoint_files
from sbi_aalr.simulation import SimulationStore, fill_store

SECONDS = float(os.environ.get("SBI_AALR_SOAK_SECONDS", 60))
# Cycles until all that is kept on purpose, such as compiled code, is there.
WARM = 3


class Fault(Exception):
    """A fault that is injected."""


def simulate_badly(theta):
    """NaN for three in a hundred, and now and then a batch that raises."""
    # Not while it is found out how it is called, which some rows at a time decide.
    if len(theta) > 5 and torch.rand(()) < 0.05:
        raise Fault("as it happens")
    return torch.where(torch.rand(len(theta), 1) < 0.03, torch.nan, simulate(theta))


def read_memory():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def list_handles():
    return len(os.listdir("/proc/self/fd"))


def run_cycle(folder, number, patch):
    """Simulate, train and sample once, with faults at random places."""
    generator = random.Random(number)
    write = checkpoint_files.write_tensors

    def write_or_fail(*arguments):
        if generator.random() < 0.2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    store = SimulationStore(folder / "sims.zarr")
    with ThreadPoolExecutor(2) as executor:
        settings = {"seed": number, "on_error": "skip", "executor": executor}
        fill_store(store, simulate_badly, PRIOR, 300, batch_size=6, **settings)
        trainer = AALR(
            PRIOR, networks.two_towers(8, 1), base=None, show_progress_bars=False
        )
        for attempt in range(4):
            with patch.context() as inner:
                if attempt < 3:
                    inner.setattr(checkpoint_files, "write_tensors", write_or_fail)
                try:
                    trainer.train_online(
                        simulate_badly,
                        300,
                        num_passes=3,
                        store=store,
                        checkpoint=folder / "checkpoint",
                        checkpoint_every=0.05,
                        **settings,
                    )
                    break
                except OSError:
                    # The first checkpoint must be written.
                    continue
        posterior = trainer.build_posterior()
        x = draw_pairs(4, seed=number)[2]
        options = {**SHORT, "seed": 1, "out": folder / "draws.nc"}
        posterior.sample_batched((50,), x, executor=executor, **options)
    trainer.save(folder / "trainer")
    AALR.load(folder / "trainer", classifier=networks.two_towers(8, 1))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_nothing_grows_and_nothing_is_left(tmp_path, monkeypatch):
    started, memory, handles, number = time.monotonic(), [], [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() - started < SECONDS or number < 2 * WARM:
            folder = tmp_path / str(number)
            folder.mkdir()
            run_cycle(folder, number, monkeypatch)
            number += 1
            memory.append(read_memory())
            handles.append(list_handles())
    assert not list(tmp_path.rglob(".sbi_aalr-*"))
    assert not list(tmp_path.rglob("*.parts"))
    assert max(handles[WARM:]) <= handles[WARM] + 2
    # Megabytes a cycle; what a cycle holds is more than 20.
    half = len(memory) // 2
    grown = sum(memory[half:]) / len(memory[half:]) - sum(memory[WARM:half]) / max(
        1, half - WARM
    )
    shown = ", ".join(f"{value:.0f}" for value in memory[:: max(1, number // 20)])
    print(f"{number} cycles, MB: {shown}; grown by {grown:.1f} MB")
    assert grown < 20
