"""Chains are read back as they were written, or not at all."""

import random

import h5py
import pytest
import torch
import xarray as xr
from linear_gaussian import PRIOR, SHORT, X_O, simulate

from sbi_aalr.persistence.run_store import read_run


@pytest.fixture(params=["single", "batched"])
def written(request, posterior, tmp_path):
    out = tmp_path / "chains.nc"
    if request.param == "single":
        posterior.sample((40,), x=X_O, seed=1, out=out, **SHORT)
    else:
        torch.manual_seed(1)
        x = simulate(PRIOR.sample((4,)))
        posterior.sample_batched((20,), x, seed=1, out=out, **SHORT)
    return out


def test_chains_with_a_hash_come_back_as_they_were(written, posterior):
    run = read_run(written, posterior.target)
    assert torch.equal(run.chains.theta, posterior.chains.theta)
    assert "estimator" not in run.settings
    with xr.open_datatree(written) as tree:
        assert len(tree.attrs["estimator"]) == 64
        assert "theta" in tree["posterior"]
    # Nor do other readers mind the hash.
    with h5py.File(written) as file:
        assert "theta" in file["posterior"]


def test_no_flipped_bit_changes_a_draw(written, posterior):
    """Three hundred over the whole file, and those of the hash at its end."""
    expected, content = read_run(written, posterior.target), written.read_bytes()
    rng, accepted = random.Random(1), 0
    bits = [rng.randrange(8 * len(content)) for _ in range(300)]
    bits += [8 * (len(content) - byte) for byte in range(1, 82, 9)]
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        written.write_bytes(damaged)
        try:
            found = read_run(written, posterior.target)
        except ValueError:
            continue
        accepted += 1
        # Not even the hash is known as one any more.
        assert len(content) - bit // 8 <= 81
        assert torch.equal(found.chains.theta, expected.chains.theta)
    assert accepted <= 3


def test_changed_file_is_damage_and_one_without_a_hash_is_read(written, posterior):
    content = written.read_bytes()
    written.write_bytes(content.replace(b"jump_walk", b"jump_talk"))
    with pytest.raises(
        ValueError, match=r"chains\.nc is damaged: its content does not"
    ):
        read_run(written, posterior.target)
    written.write_bytes(content[:-81])
    found = read_run(written, posterior.target)
    assert torch.equal(found.chains.theta, posterior.chains.theta)
