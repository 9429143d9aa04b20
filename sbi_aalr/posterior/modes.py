"""Compute gradients in whatever mode of torch the user is."""

import contextlib
from collections.abc import Iterator

import torch

from sbi_aalr.checks import check_bool
from sbi_aalr.errors import CallOrderError


@contextlib.contextmanager
def gradients_on(act: str) -> Iterator[None]:
    """Let gradients be computed inside, under `torch.inference_mode` too.

    Args:
        act: What needs them, for the message.

    Raises:
        RuntimeError: If a network or a prior has no gradients for good.
    """
    try:
        with torch.inference_mode(False):
            yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        raise RuntimeError(
            f"`{act}` needs gradients, and the network or the prior was made inside "
            "torch.inference_mode(), which takes them away for good. Make it outside."
        ) from error


def gradients_set(name: str, value: bool) -> torch.set_grad_enabled:
    """Compute gradients inside or not, or raise where torch has none to give.

    Args:
        name: Name of the argument, for the message.
        value: Whether to compute them.
    """
    if check_bool(name, value) and torch.is_inference_mode_enabled():
        raise CallOrderError(
            f"`{name}` must be False inside torch.inference_mode(), which keeps no "
            "gradients. Leave that mode first; torch.no_grad() is fine."
        )
    return torch.set_grad_enabled(bool(value))
