"""The digits in three parts, networks for them, and searches: for `tuning.py`."""

import time
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sbi_aalr.tuning import Search

Curve = tuple[list[float], list[float]]  # seconds, held-out losses


class Digits(NamedTuple):
    """Images `(N, 64)` from 0 to 1 and labels `(N,)`, in three parts."""

    training: tuple[Tensor, Tensor]
    tuning: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def split_digits(num_training: int, num_tuning: int, seed: int) -> Digits:
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    sizes = [num_training, num_tuning, len(images) - num_training - num_tuning]
    labels = torch.tensor(digits.target)
    parts = zip(images[order].split(sizes), labels[order].split(sizes), strict=True)
    return Digits(*parts)


def build_network(*widths: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for num_inputs, num_outputs in zip((64, *widths), (*widths, 10), strict=True):
        layers += [nn.Linear(num_inputs, num_outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def measure_error(network: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    network.eval()
    with torch.no_grad():
        return float((network(part[0]).argmax(1) != part[1]).float().mean())


def build_search(network, knobs, compute_loss, data: Digits, rate, **settings):
    return Search(
        network,
        knobs,
        compute_loss,
        lambda: cross_entropy(network(data.tuning[0]), data.tuning[1]),
        optimizer=torch.optim.Adam(network.parameters(), 1e-3),
        hyperparameter_optimizer=torch.optim.Adam(knobs.parameters(), rate),
        **settings,
    )


def run(search: Search, num_steps: int) -> Curve:
    """Run a search, and note the processor's time and the held-out loss."""
    started, times, losses = time.process_time(), [], []
    for _ in range(num_steps):
        losses.append(search.run(1)[-1].validation_loss)
        times.append(time.process_time() - started)
    return times, losses
