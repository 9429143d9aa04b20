"""Training in several processes that `torchrun` started, each on its own simulations.

Every process has the same estimators and draws its own batches. After each step's
backward pass the gradients are averaged over the processes, as torch's
`DistributedDataParallel` does; that wrapper itself sees only one `forward`, whereas the
loss here goes through the parts of a network. What is decided by held-out losses or by
the clock is decided by all together. Outside of `together` nothing is shared.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle
import torch
from torch import Tensor, distributed, nn

_state = {"is_on": False}


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Share what is trained inside, if there are several processes."""
    _state["is_on"] = distributed.is_available() and distributed.is_initialized()
    try:
        yield
    finally:
        _state["is_on"] = False


def count_ranks() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _state["is_on"] else 1


def find_rank() -> int:
    """Which of them this one is, from zero."""
    return distributed.get_rank() if _state["is_on"] else 0


def share(value: Any) -> Any:
    """What the first process has."""
    if count_ranks() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def share_weights(estimators: Sequence[nn.Module]) -> None:
    """Give all processes the weights of the first one."""
    if count_ranks() == 1:
        return
    for estimator in estimators:
        weights = {name: value.cpu() for name, value in estimator.state_dict().items()}
        device = next(estimator.parameters()).device
        shared = share(weights)
        estimator.load_state_dict({n: value.to(device) for n, value in shared.items()})


@torch.no_grad()
def average_gradients(weights: Sequence[Tensor]) -> None:
    """Average the gradients over all processes, in place."""
    if count_ranks() == 1:
        return
    # Where a weight had no part in the loss of this process, it may in that of another.
    gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in weights]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= count_ranks()
    sizes = [gradient.numel() for gradient in gradients]
    for weight, part in zip(weights, flat.split(sizes), strict=True):
        weight.grad = part.view_as(weight).clone()


def average(value: float) -> float:
    """The mean of a number over all processes."""
    return _reduce(value, distributed.ReduceOp.SUM) / count_ranks()


def find_most(value: float) -> float:
    """The largest of a number over all processes."""
    return _reduce(value, distributed.ReduceOp.MAX)


def gather(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of all processes, one after the other."""
    if count_ranks() == 1:
        return theta, x
    parts: list[Any] = [None] * count_ranks()
    distributed.all_gather_object(parts, (theta.cpu(), x.cpu()))
    thetas, data = zip(*parts, strict=True)
    return torch.cat(thetas).to(theta), torch.cat(data).to(x)


def do_once(work: Callable[[], Any]) -> Any:
    """What some work gives, which the first process does for all."""
    if count_ranks() == 1:
        return work()
    made = cloudpickle.dumps(work()) if find_rank() == 0 else None
    return cloudpickle.loads(share(made))


def _reduce(value: float, operation: Any) -> float:
    if count_ranks() == 1:
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(shared, operation)
    return float(shared)
