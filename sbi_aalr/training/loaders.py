"""A data loader that takes whole batches out of tensors.

torch's `DataLoader` fetches row by row and stacks them again, which costs more than a
step of a small network does. With a `BatchSampler` it takes whole batches too, and in
the same order for a seed if it has a generator of its own; but it makes lists of row
numbers on the way, and takes 6 to 7 times as long for batches of 256 rows
(`benchmarks/own_parts.py`). All draw a new order for every pass and leave out the last
rows that do not fill a batch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


class TensorLoader:
    """Batches of rows, in a new random order in every pass.

    Args:
        tensors: Tensors with the same number of rows.
        indices: Rows to use, long, shape `(N,)`.
        batch_size: Rows in a batch.
        is_shuffled: Whether to draw a new order; held-out rows need none.

    Example:
        >>> loader = TensorLoader([torch.arange(10)], torch.arange(9), batch_size=4)
        >>> len(loader), [len(batch[0]) for batch in loader]
        (2, [4, 4])
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        indices: Tensor,
        batch_size: int,
        is_shuffled: bool = True,
    ) -> None:
        self._tensors = tensors
        self._indices = indices
        self.batch_size = batch_size
        self._is_shuffled = is_shuffled

    def __len__(self) -> int:
        return len(self._indices) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = self._indices
        if self._is_shuffled:
            order = order[torch.randperm(len(order))]
        for rows in order[: len(self) * self.batch_size].split(self.batch_size):
            yield tuple(tensor[rows.to(tensor.device)] for tensor in self._tensors)
