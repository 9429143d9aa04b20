"""The tensor loader against torch's own."""

import torch
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from sbi_aalr.training.loaders import TensorLoader


def collect(loader, seed=0):
    torch.manual_seed(seed)
    return [[tensor.tolist() for tensor in batch] for batch in loader]


def test_a_pass_visits_the_same_kind_of_batches_as_torch_does():
    rows, indices = torch.arange(20), torch.arange(3, 14)
    ours = TensorLoader([rows, 10 * rows], indices, batch_size=4)
    torch_loader = DataLoader(
        TensorDataset(rows, 10 * rows),
        batch_size=4,
        drop_last=True,
        sampler=SubsetRandomSampler(indices.tolist()),
    )
    assert len(ours) == len(torch_loader) == 2
    assert ours.batch_size == torch_loader.batch_size
    for loader in (ours, torch_loader):
        batches = collect(loader)
        seen = [row for first, _ in batches for row in first]
        assert len(batches) == 2
        assert len(set(seen)) == 8 and set(seen) <= set(indices.tolist())
        for first, second in batches:
            assert second == [10 * row for row in first]


def test_every_pass_has_a_new_order_and_over_time_all_rows():
    loader = TensorLoader([torch.arange(10)], torch.arange(10), batch_size=4)
    torch.manual_seed(0)
    passes = [[row for (rows,) in loader for row in rows.tolist()] for _ in range(30)]
    assert len({tuple(order) for order in passes}) == 30
    assert {row for order in passes for row in order} == set(range(10))


def test_same_seed_gives_same_batches():
    loader = TensorLoader([torch.arange(10)], torch.arange(10), batch_size=3)
    assert collect(loader) == collect(loader)
    assert collect(loader, seed=0) != collect(loader, seed=1)
