"""Kernels' parameters, whose tensors all carry the observations first, as trees.

A tree is a tensor, or (nested) NamedTuples and tuples of trees.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def select(tree: Any, index: Tensor) -> Any:
    """Keep the observations `index` of a kernel's parameters.

    Args:
        tree: A tensor with first dimension `B`, or (nested) NamedTuples and tuples of
            such tensors.
        index: Positions of the observations to keep, long, shape `(B',)`.

    Returns:
        The same structure with first dimensions `B'`.

    Example:
        >>> select((torch.arange(3),), torch.tensor([2, 0]))
        (tensor([2, 0]),)
    """
    if isinstance(tree, Tensor):
        return tree[index]
    children = (select(child, index) for child in tree)
    return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)


def concatenate(trees: Sequence[Any]) -> Any:
    """Put the observations of several kernels' parameters side by side.

    Args:
        trees: Structures that `select` takes, all of the same form.

    Returns:
        The same structure with the first dimensions summed.

    Example:
        >>> concatenate([(torch.zeros(1),), (torch.ones(2),)])
        (tensor([0., 1., 1.]),)
    """
    if isinstance(trees[0], Tensor):
        return torch.cat(list(trees))
    children = map(concatenate, zip(*trees, strict=True))
    first = trees[0]
    return type(first)(*children) if hasattr(first, "_fields") else tuple(children)
