"""The plain recipe that users of ratio estimators write by hand, to measure against.

An MLP with SELU on (theta, x), binary cross-entropy of sigmoids on joint and marginal
batches, Adam; then random-walk Metropolis with unit Gaussian steps, ten chains and two
evaluations of the network a step.
"""

import time

import torch
from torch import Tensor, nn

BATCH_SIZE = 256


def build(num_parameters: int, num_features: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(num_parameters + num_features, 256),
        nn.SELU(),
        nn.Linear(256, 256),
        nn.SELU(),
        nn.Linear(256, 256),
        nn.SELU(),
        nn.Linear(256, 1),
    )


def train(simulate, prior, num_simulations: int) -> tuple[nn.Module, float]:
    """Return the network and the seconds it took."""
    started = time.perf_counter()
    theta = prior.sample((2,))
    network = build(theta.shape[1], simulate(theta).shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    criterion = nn.BCELoss()
    ones, zeros = torch.ones(BATCH_SIZE, 1), torch.zeros(BATCH_SIZE, 1)
    for _ in range(num_simulations // BATCH_SIZE):
        theta, theta_prime = prior.sample((BATCH_SIZE,)), prior.sample((BATCH_SIZE,))
        x = simulate(theta)
        joint = torch.sigmoid(network(torch.cat((theta, x), dim=1)))
        marginal = torch.sigmoid(network(torch.cat((theta_prime, x), dim=1)))
        loss = criterion(joint, ones) + criterion(marginal, zeros)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, time.perf_counter() - started


@torch.no_grad()
def sample(
    log_ratio, prior, x_o: Tensor, num_draws: int, num_chains: int = 10, thin: int = 10
) -> tuple[Tensor, float]:
    """Return chains `(C, S, D)` and the seconds they took.

    Args:
        log_ratio: A callable (theta, x) -> (N,).
        prior: The prior.
        x_o: One observation, shape `(1, E)`.
        num_draws: Draws to keep in each chain.
        num_chains: Number of chains, started from the prior.
        thin: Steps from one kept draw to the next.
    """
    started = time.perf_counter()
    x = x_o.expand(num_chains, -1)
    theta = prior.sample((num_chains,))
    kept = []
    for index in range(num_draws * thin):
        proposed = theta + torch.randn_like(theta)
        here = log_ratio(theta, x) + prior.log_prob(theta)
        there = log_ratio(proposed, x) + prior.log_prob(proposed)
        accepted = torch.rand(num_chains).log() < there - here
        theta = torch.where(accepted.unsqueeze(1), proposed, theta)
        if (index + 1) % thin == 0:
            kept.append(theta)
    return torch.stack(kept, dim=1), time.perf_counter() - started
