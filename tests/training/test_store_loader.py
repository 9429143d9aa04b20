import tracemalloc

import pytest
import torch
import zarr

from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulation.stored_rows import StoredRows
from sbi_aalr.training.loaders import TensorLoader
from sbi_aalr.training.store_loader import StoreLoader

ROWS = 103


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Parameters that name their rows, and data of 10 rows a block, on disk in part."""
    monkeypatch.setattr("sbi_aalr.simulation.stored_rows._BLOCK_BYTES", 10 * 4 * 3)
    monkeypatch.setattr("sbi_aalr.simulation.store_arrays._CHUNK_BYTES", 7 * 4 * 3)
    theta = torch.arange(float(ROWS)).unsqueeze(1)
    x = theta + torch.tensor([0.0, 0.25, 0.5])
    stores = SimulationStore(tmp_path / "a"), SimulationStore(tmp_path / "b")
    for start in range(0, 60, 15):
        stores[0].append(theta[start : start + 15], x[start : start + 15])
    stores[1].append(theta[80:], x[80:])
    return theta, x, StoredRows([stores[0].freeze(), x[60:80], stores[1].freeze()])


def test_rows_are_those_of_all_parts_in_order(data):
    _, x, rows = data
    assert len(rows) == ROWS and rows.shape == x.shape
    for chosen in (slice(None), slice(55, 85), slice(3, 3), slice(1, 100, 9)):
        assert torch.equal(rows[chosen], x[chosen])
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rows[order[:40]], x[order[:40]])
    assert rows[order[:0]].shape == (0, 3)
    assert torch.equal(
        StoredRows([rows, x[:5]])[ROWS - 2 :], torch.cat((x[-2:], x[:5]))
    )


def test_rows_that_are_added_meanwhile_do_not_count(data, tmp_path):
    theta, x, rows = data
    SimulationStore(tmp_path / "b").append(theta[:5], x[:5])
    assert len(rows) == ROWS and torch.equal(rows[:], x)


@pytest.mark.parametrize("is_shuffled", [True, False])
def test_what_fits_comes_as_from_tensors(data, is_shuffled):
    theta, x, rows = data
    indices = torch.randperm(ROWS)[:90]
    loaders = [
        loader(*tensors, indices, 8, is_shuffled)
        for loader, tensors in (
            (StoreLoader, (theta, rows)),
            (TensorLoader, ([theta, x],)),
        )
    ]
    assert len(loaders[0]) == len(loaders[1]) == 11
    for _ in range(2):
        torch.manual_seed(1)
        found = list(loaders[0])
        torch.manual_seed(1)
        expected = list(loaders[1])
        for batch, other in zip(found, expected, strict=True):
            assert all(map(torch.equal, batch, other))


@pytest.mark.parametrize("num_rows", [103, 90, 41])
def test_what_does_not_fit_comes_once_a_pass_in_another_order(data, num_rows):
    theta, _, rows = data
    indices = torch.arange(ROWS)[ROWS - num_rows :]
    loader = StoreLoader(theta, rows, indices, 4, memory_bytes=4 * 20 * 12)
    passes = []
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == num_rows // 4
        assert all(len(batch[0]) == 4 for batch in batches)
        seen = torch.cat([batch[0] for batch in batches]).squeeze(1)
        x = torch.cat([batch[1] for batch in batches])
        assert torch.equal(x[:, 1], seen + 0.25)
        assert len(seen.unique()) == len(seen) and set(seen.tolist()) <= set(
            indices.tolist()
        )
        passes.append(seen)
    assert not torch.equal(*passes)
    # Neither in the order of the file nor block by block.
    assert (passes[0].diff() == 1).float().mean() < 0.3


def test_rows_held_out_keep_their_order(data):
    theta, _, rows = data
    indices = torch.arange(5, 65)
    loader = StoreLoader(theta, rows, indices, 6, False, memory_bytes=4 * 20 * 12)
    for _ in range(2):
        seen = torch.cat([batch[0] for batch in loader]).squeeze(1)
        assert torch.equal(seen, indices.float())


def test_pass_that_is_left_early_leaves_no_thread(data):
    theta, _, rows = data
    loader = StoreLoader(theta, rows, torch.arange(ROWS), 4, memory_bytes=4 * 20 * 12)
    iterator = iter(loader)
    next(iterator)
    iterator.close()
    assert sum(len(batch[0]) for batch in loader) == 100


def test_rows_of_float64_take_twice_the_memory(tmp_path):
    store = SimulationStore(tmp_path / "sims")
    x = 1e9 + torch.randn(20, 3, dtype=torch.float64)
    store.append(torch.randn(20, 2), x)
    rows = StoredRows([store.freeze()])
    assert rows[:].dtype == torch.float64
    assert rows.num_bytes == 20 * 3 * 8
    assert StoredRows([x.float(), store.freeze()]).num_bytes == 40 * 3 * 8


def test_memory_stays_bounded(tmp_path):
    store = SimulationStore(tmp_path / "sims")
    theta = torch.randn(2_000, 2)
    for part in theta.split(500):
        store.append(part, torch.randn(500, 2_500))
    rows = StoredRows([store.freeze()])
    assert rows.num_bytes == 20_000_000
    loader = StoreLoader(theta, rows, torch.arange(2_000), 50, memory_bytes=4_000_000)
    list(loader)
    # NumPy's memory is traced, torch's is not: what is read passes through the former.
    tracemalloc.start()
    held = max(sum(part.nbytes for part in batch) for batch in loader)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held == 50 * 2_502 * 4
    assert 500_000 < peak < 8_000_000


def test_damage_is_told_while_training(data, tmp_path):
    theta, _, rows = data
    zarr.open_group(tmp_path / "a", mode="r+")["x"][:] = float("nan")
    loader = StoreLoader(theta, rows, torch.arange(ROWS), 4, memory_bytes=4 * 20 * 12)
    with pytest.raises(ValueError, match="damaged"):
        list(loader)
