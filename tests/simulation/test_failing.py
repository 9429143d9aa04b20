"""What is said of simulations that failed."""

import pytest
import torch

from sbi_aalr.errors import CallOrderError
from sbi_aalr.simulation import SimulationStore


def test_store_in_which_all_failed_is_not_called_empty(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    store.append(torch.randn(4, 2), torch.full((4, 3), torch.nan))
    message = (
        r"all 4 that were tried failed, the first because `x` has NaN or infinity\.$"
    )
    with pytest.raises(CallOrderError, match=message):
        _ = store.chunk_rows
