"""Trees of tensors: flat lists inside, and for users the shape that they gave."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

Tree = Any  # tensors, numbers, and sequences and dictionaries of trees


def flatten(name: str, tree: Tree) -> tuple[list[Tensor], Callable[[list], Tree]]:
    """List the leaves of a tree, ready to be differentiated.

    A leaf that already is a leaf of autograd is taken as it is, so that losses which
    use the parameters of a module directly depend on it. Anything else is detached.

    Args:
        name: Name of the argument, for messages.
        tree: A sequence, dictionary or iterator of tensors, numbers and trees.

    Returns:
        The leaves, and a function that puts as many of them into the same tree.
        Sequences become tuples.

    Raises:
        TypeError: If it is no tree of real floating-point tensors and numbers.
        ValueError: If there is no leaf, or a leaf holds NaN or infinity.
    """
    if isinstance(tree, Tensor | Real | str | bytes) or tree is None:
        raise TypeError(
            f"`{name}` must be a sequence of tensors, got {type(tree).__name__}. "
            f"Put a single tensor into a tuple: ({name},)."
        )
    leaves: list[Tensor] = []
    rebuild = _collect(name, tree, leaves)
    if not leaves:
        raise ValueError(f"`{name}` must hold at least one tensor, got none.")

    def unflatten(new_leaves: list) -> Tree:
        return rebuild(iter(new_leaves))

    return leaves, unflatten


def _collect(
    name: str, tree: Tree, leaves: list[Tensor]
) -> Callable[[Iterator[Any]], Tree]:
    """Append the leaves of a tree, and return what takes new ones off an iterator."""
    if isinstance(tree, Tensor | Real):
        leaves.append(_prepare_leaf(name, tree))
        return next
    if isinstance(tree, Mapping):
        parts = {
            key: _collect(f"{name}[{key!r}]", value, leaves)
            for key, value in tree.items()
        }
        return lambda new: {key: rebuild(new) for key, rebuild in parts.items()}
    if isinstance(tree, Sequence | Iterator) and not isinstance(tree, str | bytes):
        items = [
            _collect(f"{name}[{i}]", value, leaves) for i, value in enumerate(tree)
        ]
        return lambda new: tuple(rebuild(new) for rebuild in items)
    if isinstance(tree, torch.nn.ParameterList | torch.nn.ParameterDict):
        plain = dict(tree) if isinstance(tree, torch.nn.ParameterDict) else list(tree)
        return _collect(name, plain, leaves)
    raise TypeError(
        f"`{name}` must be a tensor, or a sequence or dictionary of tensors, got "
        f"{type(tree).__name__}."
    )


def _prepare_leaf(name: str, value: Tensor | Real) -> Tensor:
    if isinstance(value, bool):
        raise TypeError(f"`{name}` must be a tensor or a number, got {value!r}.")
    if not isinstance(value, Tensor):
        # Of no dimension, so float64 does not spread to the tensors that it meets.
        value = torch.tensor(float(value), dtype=torch.float64)
    if not value.is_floating_point():
        raise TypeError(
            f"`{name}` must be a tensor of real floating-point numbers, got "
            f"{value.dtype}. Convert it with .float()."
        )
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise ValueError(
            f"`{name}` must be finite, got NaN or infinity in {bad} of "
            f"{value.numel()} entries."
        )
    if value.is_inference():
        # Of these autograd keeps nothing.
        value = value.clone()
    if value.is_leaf and value.requires_grad:
        return value
    return value.detach().requires_grad_()
