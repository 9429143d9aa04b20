"""A distilled data set, and an augmentation network: for `tuning.py`."""

import copy
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample
from tuning_digits import (
    Curve,
    Digits,
    build_network,
    build_search,
    measure_error,
    run,
    split_digits,
)

from sbi_aalr.tuning import Search

Augment = Callable[[Tensor], Tensor]
# Steps whose mean loss says which was best.
NUM_AVERAGED = 8


# A distilled data set.


def distil(seed: int, num_steps: int = 150) -> Curve:
    """Ten images, one a class, of which every pixel is a hyperparameter."""
    data = split_digits(600, 400, seed)
    both = [torch.cat(pair) for pair in zip(*data[:2], strict=True)]
    data = data._replace(tuning=tuple(both))
    labels = torch.arange(10)
    firsts = torch.stack([both[0][both[1] == label][0] for label in range(10)])
    images = nn.ParameterList([firsts.clone()])

    def fit_on(pictures: Tensor) -> nn.Module:
        """Fit a network that has seen nothing but the pictures."""
        network = build_network(seed=seed + 100)
        optimizer = torch.optim.LBFGS(network.parameters(), max_iter=300)

        def close() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(network(pictures), labels) + penalise(network)
            loss.backward()
            return loss

        optimizer.step(close)
        return network

    def penalise(network: nn.Module) -> Tensor:
        return 0.005 * sum(p.square().sum() for p in network.parameters())

    network = build_network(seed=seed)
    search = Search(
        network,
        images,
        lambda: cross_entropy(network(images[0]), labels) + penalise(network),
        lambda: cross_entropy(network(data.tuning[0]), data.tuning[1]),
        optimizer=torch.optim.Adam(network.parameters(), 0.02),
        hyperparameter_optimizer=torch.optim.Adam(images.parameters(), 0.02),
        num_terms=20,
    )
    curve = run(search, num_steps)
    right = [
        1 - measure_error(fit_on(pictures), data.test)
        for pictures in (firsts, images[0].detach())
    ]
    print("| hyperparameters | test accuracy, first images | distilled | seconds |")
    print("|---|---|---|---|")
    print(
        f"| {images[0].numel()} | {right[0]:.1%} | {right[1]:.1%} | "
        f"{curve[0][-1]:.0f} |"
    )
    return curve


# An augmentation network.


class Transforms(nn.Module):
    """Draw an affine transform of each image, by a network of noise."""

    def __init__(self, noise_features: int = 8, hidden_features: int = 32) -> None:
        super().__init__()
        self.num_noises = noise_features
        self.layers = nn.Sequential(
            nn.Linear(noise_features, hidden_features),
            nn.Tanh(),
            nn.Linear(hidden_features, 6),
        )
        with torch.no_grad():
            self.layers[-1].weight.mul_(0.1)
            self.layers[-1].bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return transform(images, self.layers(torch.randn(len(images), self.num_noises)))


def transform(images: Tensor, changes: Tensor) -> Tensor:
    """Transform images `(N, 64)` by the identity plus changes `(N, 6)`."""
    shape = (len(images), 1, 8, 8)
    matrices = torch.eye(2, 3) + changes.view(-1, 2, 3)
    grid = affine_grid(matrices, shape, align_corners=False)
    pictures = images.view(shape)
    return grid_sample(pictures, grid, align_corners=False).flatten(1)


def transform_by_hand(images: Tensor) -> Tensor:
    """Stretch, shear, turn and shift, each by a tenth."""
    return transform(images, 0.1 * torch.randn(len(images), 6))


def penalise_lightly(network: nn.Module) -> Tensor:
    return 0.0015 * sum(p.square().sum() for p in network.parameters())


def fit_augmented(part, augment: Augment, seed: int, num_steps: int = 1_500):
    """Fit a network from the start, all images in each step."""
    network, (images, labels) = build_network(128, seed=seed), part
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        optimizer.zero_grad()
        with torch.no_grad():
            augmented = augment(images)
        loss = cross_entropy(network(augmented), labels) + penalise_lightly(network)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def learn_augmentation(data: Digits, seed: int, num_steps: int = 120):
    """Tune every weight of the augmentation network, from a network fitted without.

    Kept is the step with the least loss of the tuning images, a mean over a few steps:
    later on, transforms become stronger than is good.
    """
    torch.manual_seed(seed)
    augment, (images, labels) = Transforms(), data.training
    network = fit_augmented(data.training, augment, seed, 500)

    def compute_loss() -> Tensor:
        # Twice, as the transforms are noise.
        logits = network(augment(images.repeat(2, 1)))
        return cross_entropy(logits, labels.repeat(2)) + penalise_lightly(network)

    settings = {"inner_steps": 10, "num_terms": 20, "seed": seed}
    search = build_search(network, augment, compute_loss, data, 0.001, **settings)
    started, times, losses = time.process_time(), [], []
    best, kept = math.inf, augment.state_dict()
    for _ in range(num_steps):
        state = copy.deepcopy(augment.state_dict())
        losses.append(search.run(1)[-1].validation_loss)
        times.append(time.process_time() - started)
        mean = statistics.mean(losses[-NUM_AVERAGED:])
        if len(losses) >= NUM_AVERAGED and mean < best:
            best, kept = mean, state
    augment.load_state_dict(kept)
    return augment, (times, losses)


def compare_augmentations(num_seeds: int, first: int = 1) -> Curve:
    """Test errors of networks fitted from the start, with each augmentation."""
    print("| seed | none | by hand | network | none, tuning images too | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    rows, curve = [], ([], [])
    for seed in range(first, first + num_seeds):
        data = split_digits(100, 700, seed)
        learnt, curve = learn_augmentation(data, seed)
        both = tuple(torch.cat(pair) for pair in zip(*data[:2], strict=True))
        row = [
            measure_error(fit_augmented(part, augment, seed), data.test)
            for part, augment in (
                (data.training, lambda images: images),
                (data.training, transform_by_hand),
                (data.training, learnt),
                (both, lambda images: images),
            )
        ]
        rows.append(row)
        cells = " | ".join(f"{error:.1%}" for error in row)
        print(f"| {seed} | {cells} | {curve[0][-1]:.0f} |", flush=True)
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    print("| mean | " + " | ".join(f"{mean:.1%}" for mean in means) + " | |")
    for other, name in ((0, "none"), (1, "by hand")):
        gains = [row[other] - row[2] for row in rows]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        print(f"\nBetter than {name} by {statistics.mean(gains):.2%} ± {error:.2%}.")
    return curve
