"""What each process has a share of, where several that `torchrun` started train."""

from typing import Any

import torch
from torch import nn

from sbi_aalr.checks import check_seed
from sbi_aalr.seeding import derive_seed
from sbi_aalr.trainer.checkpoints import Checkpoints
from sbi_aalr.trainer.streaming import Streaming
from sbi_aalr.training.ranks import count_ranks, find_rank, share, together

_LARGEST = 2**62


def check_shared(checkpoints: Checkpoints, streaming: Streaming) -> None:
    """Raise if several processes train, and the call is one that one alone can do.

    Args:
        checkpoints: What the user set about checkpoints.
        streaming: What the user set about where simulations are made.

    Raises:
        ValueError: If it is.
    """
    with together():
        ranks = count_ranks()
    if ranks == 1:
        return
    names = ("executor", "store", "timeout")
    given = {name: getattr(streaming, name) for name in names}
    given["checkpoint"] = checkpoints.folder
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out where {ranks} processes train together, "
                f"got {value!r:.60}."
            )


def share_out(num_simulations: int) -> int:
    """Simulations that each process makes, of a budget for all.

    Raises:
        ValueError: If there are too few.
    """
    ranks = count_ranks()
    if ranks == 1:
        return num_simulations
    if num_simulations < 2 * ranks:
        raise ValueError(
            f"`num_simulations` must be at least {2 * ranks} for {ranks} processes, "
            f"got {num_simulations}."
        )
    return num_simulations // ranks


def seed_of_rank(seed: int | None) -> int | None:
    """The seed of this process: one of its own where there are several."""
    if count_ranks() == 1:
        return seed
    if seed is None:
        seed = int(torch.randint(_LARGEST, ()))
    return derive_seed(share(check_seed("seed", seed)), find_rank())


def list_estimators(trainer: Any) -> list[nn.Module]:
    """What the trainer is about to fit, closed forms included."""
    if trainer._structures is not None:
        return [structure.estimator for structure in trainer._structures]
    return [trainer._neural_net]
