"""What goes to disk to be taken up again: tensors by name, and what JSON holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Parcel(NamedTuple):
    """Tensors by name, and facts that JSON can hold.

    Attributes:
        tensors: The tensors.
        facts: The facts.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def label(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a prefix before their names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def select(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
