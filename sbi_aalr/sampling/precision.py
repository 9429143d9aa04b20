"""Full float32 in matrix products, whatever is allowed elsewhere.

The density of a narrow mixture is a small difference of large products, which TF32 and
bfloat16 leave nothing of. Chains would then go to the wrong places without a sign.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply matrices of float32 in full inside, under `torch.autocast` too."""
    with _full_float32(), torch.autocast(device.type, enabled=False):
        yield


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    try:
        allowed = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Torch refuses to read this where its newer settings, one a backend, are used.
        names = "cuda", "mkldnn"
        backends = [getattr(torch.backends, name).matmul for name in names]
        each = [backend.fp32_precision for backend in backends]
        _set(backends, ["ieee"] * len(backends))
        try:
            yield
        finally:
            _set(backends, each)
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def _set(backends: list[Any], precisions: list[str]) -> None:
    for backend, precision in zip(backends, precisions, strict=True):
        backend.fp32_precision = precision
