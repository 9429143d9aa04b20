"""Full float32 in matrix products, whatever is allowed elsewhere.

The density of a narrow mixture is a small difference of large products, which TF32 and
bfloat16 leave nothing of. Chains would then go to the wrong places without a sign.
"""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply matrices of float32 in full inside, under `torch.autocast` too."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)
