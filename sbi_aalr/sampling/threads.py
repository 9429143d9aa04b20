"""Run independent pieces of work side by side, each on one core.

Many small matrix products do not gain from several cores, several pieces of work do.
torch lets other threads run while it computes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Outcome = TypeVar("Outcome")


def map_in_threads(
    function: Callable[[Piece], Outcome],
    pieces: Sequence[Piece],
    stop: Callable[[], object],
) -> list[Outcome]:
    """Apply a function to pieces of work, in as many threads as torch would use.

    Args:
        function: Thread-safe; what it returns must not depend on other pieces.
        pieces: What to apply it to.
        stop: Called where a piece fails, or at Ctrl-C, so that the others end soon.

    Returns:
        The outcomes, in the order of the pieces.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1 or len(pieces) == 1:
        return [function(piece) for piece in pieces]
    # New threads take over what is set here.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(num_threads, len(pieces))) as pool:
            futures = [pool.submit(function, piece) for piece in pieces]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(num_threads)
