import multiprocessing
import random
import warnings

import pytest
import torch
import xarray as xr
import zarr
from kills import choose_steps, count_steps, kill_at, needs_fork

from sbi_aalr.errors import CallOrderError
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulation.store_marks import Failure


def make_rows(num_rows, seed=0, event_shape=(3,)):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(num_rows, 2, generator=generator)
    return theta, torch.randn(num_rows, *event_shape, generator=generator)


@pytest.fixture
def store(tmp_path):
    return SimulationStore(tmp_path / "sims.zarr")


def is_equal(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_store_is_made_where_there_is_none_and_opened_where_there_is(tmp_path):
    path = tmp_path / "new" / "sims.zarr"
    rows = make_rows(10)
    SimulationStore(path).append(*rows)
    assert is_equal(SimulationStore(str(path))[:], rows)


@pytest.mark.parametrize("event_shape", [(3,), (2, 4), (1, 4, 4)])
def test_rows_come_back_as_they_were_appended(store, event_shape):
    parts = [make_rows(n, n, event_shape) for n in (1, 7, 40)]
    for part in parts:
        store.append(*part)
    theta, x = (torch.cat(column) for column in zip(*parts, strict=True))
    assert len(store) == 48
    for rows in (slice(None), slice(5, 20), slice(-3, None), slice(40, 2), slice(1, 9)):
        assert is_equal(store[rows], (theta[rows], x[rows]))
    assert is_equal(store[1:40:7], (theta[1:40:7], x[1:40:7]))
    assert is_equal(store[-1], (theta[-1], x[-1]))
    assert store.validate() == 48


def test_rows_over_several_chunks_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr("sbi_aalr.simulation.store_arrays._CHUNK_BYTES", 60)
    store = SimulationStore(tmp_path / "sims.zarr")
    rows = make_rows(33)
    for start in range(0, 33, 4):
        store.append(rows[0][start : start + 4], rows[1][start : start + 4])
    assert store.chunk_rows == 5
    assert is_equal(store[:], rows)
    assert is_equal(store[9:21], (rows[0][9:21], rows[1][9:21]))
    assert store.validate() == 33


def test_other_libraries_read_the_arrays(store):
    theta, x = make_rows(20)
    store.append(theta, x)
    assert zarr.open_group(store.path, mode="r")["x"][:].tolist() == x.tolist()
    with xr.open_zarr(store.path, consolidated=False, chunks=None) as dataset:
        assert dataset["theta"].dims == ("simulation", "parameter")
        assert dataset["theta"].values.tolist() == theta.tolist()


def test_rows_that_are_not_finite_are_kept_apart(store):
    theta, x = make_rows(10)
    x[3, 1], x[7, 0] = torch.nan, torch.inf
    store.append(theta, x)
    assert len(store) == 8
    assert torch.equal(store.failures.theta, theta[[3, 7]])
    assert store.failures.errors == ["`x` has NaN or infinity."] * 2
    assert torch.isfinite(store[:][1]).all()


def test_batches_are_read_in_order_and_added_once(store):
    parts = [make_rows(5, seed) for seed in range(4)]
    failure = Failure((0.5, -1.0), "ValueError: too stiff", 77)
    for batch in (2, 0, 3, 1, 2, 0):
        failures = [failure] if batch == 3 else []
        store.append_batch(*parts[batch], failures, run=5, batch=batch)
    expected = [torch.cat(column) for column in zip(*parts, strict=True)]
    assert is_equal(store[:], expected)
    assert is_equal(store[8:13], [part[8:13] for part in expected])
    assert store.find_batches(5) == {0: (5, 0), 1: (5, 0), 2: (5, 0), 3: (5, 1)}
    assert store.find_batches(6) == {}
    assert store.failures.errors == ["ValueError: too stiff"]
    assert store.failures.seeds == [77]
    assert store.failures.theta.tolist() == [[0.5, -1.0]]


def test_frozen_rows_stay_what_they_are(store):
    parts = [make_rows(5, seed) for seed in range(3)]
    store.append_batch(*parts[2], [], run=5, batch=2)
    frozen = store.freeze()
    for batch in (1, 0):
        store.append_batch(*parts[batch], [], run=5, batch=batch)
    assert torch.equal(frozen.read("x", 0, 5), parts[2][1]) and len(frozen) == 5
    assert torch.equal(store[10:][1], parts[2][1])


def test_batch_in_which_all_failed_may_come_first(store):
    nothing = torch.empty(0, 2), torch.empty(0, 3)
    store.append_batch(*nothing, [Failure((1.0, 2.0), "no", 1)], run=1, batch=0)
    assert len(store) == 0 and store.describe()["x_shape"] is None
    store.append_batch(*make_rows(4), [], run=1, batch=1)
    assert len(store) == 4 and store.validate() == 4


def test_pages_of_marks_follow_one_another(store, monkeypatch):
    monkeypatch.setattr("sbi_aalr.simulation.store_marks._MOST_MARKS", 3)
    reader = SimulationStore(store.path)
    for number in range(10):
        store.append(*make_rows(2, number))
        assert len(reader) == 2 * (number + 1)
    parts = [make_rows(2, number) for number in range(10)]
    expected = [torch.cat(column) for column in zip(*parts, strict=True)]
    assert is_equal(SimulationStore(store.path)[:], expected)
    assert len(list((store.path / "marks").glob("0*"))) == 4


def test_description_tells_what_was_noted(store):
    assert store.describe()["num_simulations"] == 0
    store.note(simulator="model:simulate", seed=3)
    store.note(prior={"kind": "uniform"})
    store.append(*make_rows(4))
    found = SimulationStore(store.path).describe()
    assert found["simulator"] == "model:simulate" and found["seed"] == 3
    assert found["prior"] == {"kind": "uniform"}
    assert found["theta_shape"] == (2,) and found["x_shape"] == (3,)
    assert {"torch", "zarr", "sbi_aalr", "python"} <= found["versions"].keys()
    with pytest.raises(TypeError):
        store.note(prior=object())


def test_wrong_rows_are_refused_and_change_nothing(store):
    store.append(*make_rows(4))
    theta, x = make_rows(4)
    for wrong, message in [
        ((theta, x[:3]), "same number of rows"),
        ((theta[:, :1], x), "rows of shape \\(2,\\)"),
        ((theta, x[:, :2]), "rows of shape \\(3,\\)"),
        ((theta * torch.nan, x), "`theta` must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            store.append(*wrong)
    with pytest.raises(TypeError, match="torch tensor"):
        store.append(theta.numpy(), x)
    with pytest.raises(TypeError, match="slice or an int"):
        store["x"]
    with pytest.raises(IndexError, match="4 rows, got row 4"):
        store[4]
    assert len(store) == 4 and store.validate() == 4


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    with pytest.raises(ValueError, match="holds something else"):
        SimulationStore(tmp_path / "photos")
    with pytest.raises(NotADirectoryError):
        SimulationStore(tmp_path / "photos" / "cat.png")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="must be a group of a store"):
        SimulationStore(tmp_path / "other.zarr")
    with pytest.raises(TypeError, match="`path` must be a path"):
        SimulationStore(3)
    assert (tmp_path / "photos" / "cat.png").read_text() == "cat"


def test_reading_an_empty_store(store):
    assert [len(part) for part in store[:]] == [0, 0]
    assert store.validate() == 0 and len(store.freeze()) == 0
    with pytest.raises(CallOrderError, match="holds no simulations yet"):
        _ = store.chunk_rows


@needs_fork
def test_several_processes_append_side_by_side(store):
    store.append(*make_rows(1))

    def append(first):
        own = SimulationStore(store.path)
        for number in range(first, first + 8):
            own.append(*make_rows(3, number))

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append, args=(100 * i,)) for i in range(1, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for worker in workers:
            worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(store) == 1 + 3 * 8 * 3 and store.validate() == len(store)
    expected = {
        tuple(make_rows(3, 100 * i + n)[0][0].tolist())
        for i, n in ((i, n) for i in (1, 2, 3) for n in range(8))
    }
    assert expected <= {tuple(row.tolist()) for row in store[:][0]}


@needs_fork
def test_append_that_is_killed_at_any_step_loses_nothing(tmp_path):
    kept, more = make_rows(6), make_rows(5, 1)

    def begin(name):
        store = SimulationStore(tmp_path / name)
        store.append(*kept)
        return store

    steps = count_steps(lambda: begin("count").append(*more))
    first = count_steps(lambda: begin("first"))
    assert steps - first > 5
    for number in choose_steps(steps, 12):
        path = tmp_path / str(number)

        def work(path=path):
            begin(path).append(*more)

        kill_at(work, number)
        store = SimulationStore(path)
        found = len(store)
        assert found in (0, 6, 11) and store.validate() == found
        if found == 6:
            assert is_equal(store[:], kept)
        store.append(*make_rows(4, 2))
        assert is_equal(store[found:], make_rows(4, 2))
        assert store.validate() == found + 4
        assert not list(path.rglob(".sbi_aalr-*"))
        assert not [p for p in (path / "x").glob("*.partial")]


def is_refused(path):
    """Whether a store is said to be damaged; if not, it must be as it was."""
    parts = make_rows(30), make_rows(30, 1)
    expected = [torch.cat(column) for column in zip(*parts, strict=True)]
    try:
        found = SimulationStore(path)
        found.validate()
        rows = found[:]
    except ValueError as error:
        return "damaged" in str(error) or "must be" in str(error)
    assert is_equal(rows, expected)
    return False


def test_flipped_bits_are_found(store):
    generator = random.Random(1)
    store.append(*make_rows(30))
    store.append(*make_rows(30, 1))
    refused = dict.fromkeys(path for path in store.path.rglob("*") if path.is_file())
    for path in refused:
        intact = path.read_bytes()
        refused[path] = 0
        for _ in range(6):
            damaged = bytearray(intact)
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
            path.write_bytes(damaged)
            refused[path] += is_refused(store.path)
        path.write_bytes(intact)
    # Some bits of what says how the arrays are laid out mean nothing.
    assert all(refused.values())
    assert {refused[path] for path in refused if path.name != "zarr.json"} == {6}


def test_stale_rows_under_a_mark_are_found(store):
    store.append(*make_rows(8))
    zarr.open_group(store.path, mode="r+")["x"][2] = 0.0
    with pytest.raises(ValueError, match="rows 0 to 7 of its arrays do not fit"):
        store.validate()


def test_missing_chunk_is_found(store):
    store.append(*make_rows(8))
    (store.path / "x" / "c" / "0" / "0").unlink()
    with pytest.raises(ValueError, match="x is damaged: a chunk is missing"):
        _ = SimulationStore(store.path)[2:5]


def test_reading_needs_no_permission_to_write(store, monkeypatch):
    store.append(*make_rows(8))

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr("sbi_aalr.simulation.store.writing", refuse)
    reader = SimulationStore(store.path)
    assert is_equal(reader[:], make_rows(8)) and reader.validate() == 8
    with pytest.raises(PermissionError):
        reader.append(*make_rows(8))
