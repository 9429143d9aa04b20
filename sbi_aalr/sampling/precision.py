"""Full float32 in matrix products, whatever is allowed elsewhere.

The density of a narrow mixture is a small difference of large products, which TF32 and
bfloat16 leave nothing of. Chains would then go to the wrong places without a sign.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply matrices of float32 in full inside, under `torch.autocast` too."""
    restore = _multiply_in_full()
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        restore()


def _multiply_in_full() -> Callable[[], None]:
    """Set it so, and return what sets it back."""
    try:
        allowed = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Torch refuses to read this where its newer settings, one a backend, are used.
        names = "cuda", "mkldnn"
        backends = [getattr(torch.backends, name).matmul for name in names]
        each = [backend.fp32_precision for backend in backends]
        _set(backends, ["ieee"] * len(backends))
        return partial(_set, backends, each)
    if allowed == "highest":
        # To set it again would take those of the backends from who sets them later.
        return lambda: None
    torch.set_float32_matmul_precision("highest")
    return partial(torch.set_float32_matmul_precision, allowed)


def _set(backends: list[Any], precisions: list[str]) -> None:
    for backend, precision in zip(backends, precisions, strict=True):
        backend.fp32_precision = precision
