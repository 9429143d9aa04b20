"""The simulations of a trainer, in memory or in stores.

Of a store, parameters are in memory and data are read as they are needed. What it says
of failed simulations is kept too: a posterior must know how often simulations succeed,
see `sbi_aalr.sampling.validity`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sbi.utils import mask_sims_from_prior
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from sbi_aalr.checks import check_inside, check_row_shapes, keep_digits
from sbi_aalr.errors import CallOrderError
from sbi_aalr.sampling.truncated_prior import TruncatedPrior, take_off_cuts
from sbi_aalr.sampling.validity import Validity, ValidPrior
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.simulation.stored_rows import StoredRows
from sbi_aalr.training.loaders import TensorLoader
from sbi_aalr.training.store_loader import MEMORY_BYTES, StoreLoader
from sbi_aalr.training.validity import fit_validity

# Bytes of the data that a new network is scaled by.
_SCALING_BYTES = 2**26


def append_store(
    trainer: Any, store: SimulationStore, x: object, from_round: int
) -> None:
    """Append the simulations that a store holds now; see `append_simulations`.

    Args:
        trainer: To which.
        store: With at least one simulation.
        x: None, as the data are in the store.
        from_round: Round that they come from.

    Raises:
        CallOrderError: If the store is empty.
        ValueError: If rows have another shape than those appended before, the prior
            rules out parameters, or the store is damaged.
    """
    if x is not None:
        raise ValueError(
            "`x` must be left out with a store, which holds the data, got "
            f"{type(x).__name__}."
        )
    theta_shape, x_shape = store.shapes
    rows = store.freeze()
    theta = rows.read("theta", 0, len(rows))
    if trainer._theta_roundwise:
        shapes = [trainer._theta_roundwise[0].shape[1:]]
        shapes.append(trainer._x_roundwise[0].shape[1:])
        empty = torch.empty(0, *theta_shape), torch.empty(0, *x_shape)
        check_row_shapes(*empty, shapes, "the simulations appended before")
    prior = take_off_cuts(trainer._prior)
    if prior is not None:
        check_inside("theta", theta, prior)
    trainer._theta_roundwise.append(theta.to(trainer._device))
    trainer._x_roundwise.append(StoredRows([rows]))
    trainer._prior_masks.append(mask_sims_from_prior(from_round, len(theta)))
    trainer._data_round_index.append(from_round)
    if len(store.failures.errors):
        trainer._failures = (*trainer._failures, store.failures.theta)


def find_rounds(numbers: Sequence[int], starting_round: int) -> list[int]:
    """Places of the simulations whose round is that or a later one, or raise."""
    used = [place for place, number in enumerate(numbers) if number >= starting_round]
    if not used:
        raise CallOrderError(
            f"There are no simulations from round {starting_round} on. Call "
            "`append_simulations(theta, x)` first."
        )
    return used


def join_rows(parts: list[Any]) -> Any:
    """All data one after the other, a tensor unless some are in a store."""
    is_stored = any(isinstance(part, StoredRows) for part in parts)
    return StoredRows(parts) if is_stored else keep_digits(torch.cat(parts))


def make_loaders(
    trainer: Any,
    simulations: tuple[Tensor, Any, Tensor],
    batch_size: int,
    dataloader_kwargs: dict[str, Any] | None,
) -> tuple[Any, Any]:
    """Loaders of the trainer's `train_indices` and `val_indices`.

    Args:
        trainer: Whose rows are meant.
        simulations: Parameters, data and sbi's masks, of which the indices count rows.
        batch_size: Most rows in a batch.
        dataloader_kwargs: Passed on to torch's loader, which takes the place of our own
            if they are given.

    Raises:
        TypeError: If torch's loader does not take them.
        ValueError: Likewise, or if data are in a store.
    """
    theta, x, masks = simulations
    is_stored = isinstance(x, StoredRows)
    if is_stored and dataloader_kwargs is not None:
        raise ValueError(
            "`dataloader_kwargs` must be left out where simulations are in a store, "
            f"which is read by a loader of its own, got {dataloader_kwargs!r}."
        )

    def load(rows: Tensor, is_shuffled: bool) -> Any:
        size = min(batch_size, len(rows))
        if is_stored:
            return StoreLoader(theta, x, rows, size, is_shuffled)
        if dataloader_kwargs is None:
            return TensorLoader([theta, x], rows, size, is_shuffled)
        settings: Any = {
            "batch_size": size,
            "drop_last": True,
            "sampler": SubsetRandomSampler(rows.tolist()),
            **dataloader_kwargs,
        }
        return DataLoader(TensorDataset(theta, x, masks), **settings)

    try:
        return load(trainer.train_indices, True), load(trainer.val_indices, False)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "`dataloader_kwargs` must be a dict of arguments of torch's DataLoader "
            f"that agree with a sampler, got {dataloader_kwargs!r}, for which it "
            f"says: {error}."
        ) from error


def shuffle_rows(rows: Tensor, parts: list[Any]) -> Tensor:
    """Rows in a random order; of data that memory does not hold, block by block.

    So a block, but for one, is either trained on or held out, and is read once a pass.

    Args:
        rows: Numbers of rows, shape `(n,)`, ascending.
        parts: All data, of which they count the rows.
    """
    is_stored = any(isinstance(part, StoredRows) for part in parts)
    x = StoredRows(parts) if is_stored else None
    if x is None or x.num_bytes <= MEMORY_BYTES:
        return rows[torch.randperm(len(rows))]
    _, counts = (rows // x.block_rows).unique_consecutive(return_counts=True)
    blocks = rows.split(counts.tolist())
    return torch.cat([blocks[number] for number in torch.randperm(len(blocks))])


def take_first(theta: Tensor, x: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that a new network is scaled by: all of them, or as many as memory holds."""
    if isinstance(x, StoredRows):
        rows = rows[: max(2, _SCALING_BYTES // (x.num_bytes // len(x)))]
    return theta[rows], x[rows]


def measure_validity(trainer: Any) -> Validity | None:
    """How often stored simulations succeed, by theta; None where none of them failed.

    Args:
        trainer: Whose simulations are meant.
    """
    if not trainer._failures:
        return None
    failed = torch.cat(trainer._failures)
    valid = torch.cat([theta.cpu() for theta in trainer._theta_roundwise])
    return fit_validity(valid, failed).to(trainer._device)


def correct_prior(trainer: Any, prior: Distribution | None) -> Distribution | None:
    """The prior of what succeeds, where simulations of the last fit failed.

    Args:
        trainer: Whose fit is meant.
        prior: The prior of the posterior; None for the trainer's.
    """
    prior = prior or trainer._prior
    validity = trainer._validity
    if validity is None or prior is None or isinstance(prior, ValidPrior):
        return prior
    if isinstance(prior, TruncatedPrior):
        return TruncatedPrior(ValidPrior(prior.prior, validity), prior.cuts)
    return ValidPrior(prior, validity)
