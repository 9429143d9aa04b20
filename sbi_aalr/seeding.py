"""Seed the global generators of torch, NumPy and Python for a while, or spare them."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from sbi_aalr.checks import check_seed


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the global generators of torch, NumPy and Python as they were before.

    For what draws only to look, as whether a prior gives rows of parameters: nobody's
    next draws should depend on that.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    # Named, as torch warns otherwise where there are several.
    cuda = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, and restore them after.

    Simulators and networks draw from global generators; nothing else can make a run
    repeat. Without a seed this does nothing.
    """
    if seed is None:
        yield
        return
    seed = check_seed("seed", seed)
    with generators_kept():
        seed_generators(seed)
        yield


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python, for good."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def derive_seed(seed: int, *key: int) -> int:
    """A seed for one part of what a seed is for, independent of those of other parts.

    Args:
        seed: The seed of the whole.
        key: Numbers that name the part.

    Returns:
        An int of 63 bits.

    References:
        NumPy's `SeedSequence`, of which this is the child of that key.
    """
    child = np.random.SeedSequence(seed, spawn_key=key)
    return int(child.generate_state(1, np.uint64)[0] >> np.uint64(1))


def read_generators() -> dict[str, Any]:
    """The states of the global generators of torch, NumPy and Python.

    Returns:
        What JSON can hold, for `set_generators`.
    """
    name, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    used = torch.cuda.is_initialized()
    cuda = torch.cuda.get_rng_state_all() if used else []
    return {
        "torch": _to_text(torch.get_rng_state()),
        "cuda": [_to_text(state) for state in cuda],
        "numpy": [str(name), np.asarray(keys).tolist(), *rest],
        "python": [version, list(numbers), gauss],
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Bring the global generators to states that `read_generators` returned.

    Raises:
        ValueError: If they are no such states.
    """
    try:
        torch.set_rng_state(_from_text(states["torch"]))
        if states["cuda"] and torch.cuda.is_available():
            devices = range(min(len(states["cuda"]), torch.cuda.device_count()))
            for device in devices:
                torch.cuda.set_rng_state(_from_text(states["cuda"][device]), device)
        name, keys, *rest = states["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))
    except (KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"These are no states of generators: {error}.") from error


def _to_text(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_text(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
