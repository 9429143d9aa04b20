"""Rows at the ends of what float32 holds, and batches of which nothing is left."""

import pytest
import torch
from sbi.utils import BoxUniform

from sbi_aalr import AALR
from sbi_aalr.simulation import SimulationStore, fill_store

BOX = BoxUniform(torch.zeros(2), torch.ones(2))


@pytest.fixture
def store(tmp_path):
    return SimulationStore(tmp_path / "sims.zarr")


def test_rows_whose_sum_overflows_are_read(store):
    x = torch.cat((torch.full((500, 1), 3e38), torch.full((500, 1), -3e38)))
    store.append(torch.rand(1_000, 2), x)
    assert torch.equal(store[:][1], x)


def test_numbers_that_float32_does_not_hold_are_kept_apart(store):
    store.append(torch.rand(1, 2), torch.zeros(1, 2))
    store.append(torch.rand(1, 2), torch.tensor([[1e39, 0.0]], dtype=torch.float64))
    assert len(store) == 1 and len(store.failures.errors) == 1
    assert torch.isfinite(store[:][1]).all()


@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.InvalidSimulationsWarning")
def test_batches_that_failed_as_a_whole_are_passed_over(store):
    def simulate(theta):
        if (theta[:, 0] > 0.6).any():
            raise ValueError("too stiff")
        return theta + 0.1 * torch.randn_like(theta)

    settings = {"seed": 1, "on_error": "skip"}
    fill_store(store, simulate, BOX, 40, batch_size=1, **settings)
    assert any(sum(count) == count[1] for count in store.find_batches(1).values())
    theta, x, failed = store.read_batch(
        1, next(n for n, count in store.find_batches(1).items() if not count[0])
    )
    assert (theta.shape, len(x), failed.shape) == ((0, 2), 0, (1, 2))
    trainer = AALR(BOX, "selu_mlp", show_progress_bars=False)
    trainer.train_online(simulate, 60, store=store, num_passes=1, **settings)
    assert sum(len(part) for part in (store[:][0], store.failures.theta)) == 60
