"""Write and read what a search goes on from: one file of tensors, with JSON among them.

Nothing in it is code. Modules and optimizers give their `state_dict`; what is a tensor
in these trees is kept by a number, the rest is JSON. That is kept as bytes among the
tensors, so that one hash covers all.
"""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sbi_aalr.files import check_path, read_tensors, write_tensors

_TEXT = "json"
_TENSOR, _KEYS = "__tensor__", "__items__"
Part = nn.Module | Optimizer


def write_state(
    path: str | PathLike[str], parts: Mapping[str, Part], numbers: Mapping[str, Any]
) -> None:
    """Write the state of modules and optimizers, and some numbers, into one file.

    Args:
        path: The file.
        parts: Modules and optimizers by name.
        numbers: What JSON can hold.
    """
    tensors: dict[str, Tensor] = {}
    states = {name: _pack(part.state_dict(), tensors) for name, part in parts.items()}
    text = json.dumps({"states": states, "numbers": dict(numbers)})
    tensors[_TEXT] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    write_tensors(check_path("path", path), tensors)


def read_state(path: str | PathLike[str], parts: Mapping[str, Part]) -> dict[str, Any]:
    """Put what `write_state` wrote into modules and optimizers, and return the numbers.

    Args:
        path: The file.
        parts: Modules and optimizers like those that were written, by the same names.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, or of other modules or optimizers. Then nothing
            has changed.
    """
    path = check_path("path", path)
    tensors = read_tensors(path)
    try:
        content = json.loads(bytes(tensors.pop(_TEXT).tolist()))
        states = {
            name: _unpack(state, tensors) for name, state in content["states"].items()
        }
        numbers = dict(content["numbers"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no search that was saved: {error!r}.") from error
    _check_alike(path, parts, states)
    for name, part in parts.items():
        part.load_state_dict(states[name])
    return numbers


def _pack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a tree out of it."""
    if isinstance(tree, Tensor):
        key = str(len(tensors))
        tensors[key] = tree
        return {_TENSOR: key}
    if isinstance(tree, Mapping):
        # As pairs, since an optimizer has numbers for keys.
        return {_KEYS: [[key, _pack(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_pack(value, tensors) for value in tree]
    return tree


def _unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        return {key: _unpack(value, tensors) for key, value in tree[_KEYS]}
    if isinstance(tree, list):
        return [_unpack(value, tensors) for value in tree]
    return tree


def _check_alike(
    path: object, parts: Mapping[str, Part], states: Mapping[str, Any]
) -> None:
    """Raise if what was read does not fit where it is to go."""
    if parts.keys() != states.keys():
        raise ValueError(
            f"{path} must be of a search that was built like this one, but it has "
            f"{', '.join(states)} and this one {', '.join(parts)}."
        )
    for name, part in parts.items():
        found, wanted = _list_shapes(states[name]), _list_shapes(part.state_dict())
        if isinstance(part, Optimizer):
            # Before its first step an optimizer has no state yet; schedulers put more
            # into its groups than it knows by itself.
            found, wanted = (
                [
                    (len(group["params"]), part.defaults.keys() <= group.keys())
                    for group in groups
                ]
                for groups in (states[name]["param_groups"], part.param_groups)
            )
        if found != wanted:
            raise ValueError(
                f"{path} must be of a search that was built like this one, but its "
                f"`{name}` has other shapes, or is of another kind."
            )


def _list_shapes(state: Mapping[str, Any]) -> Any:
    return {key: getattr(value, "shape", None) for key, value in state.items()}
