"""Tell modes apart by their chains, and fill those that few chains have found.

Chains are joined where the log-density does not fall far between them and their nearest
neighbours; what hangs together is a mode, bent or not. Where a mode has few chains,
its shape is learned by a random walk that begins with copies of them and stays in it.
Only then can a mixture be fitted whose draws land there, and annealing set its share.

References:
    Ester et al. (1996), KDD, for clusters of any shape as what hangs together; Haario,
    Saksman & Tamminen (2001), Bernoulli 7(2), for the walk.
"""

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.kernel import State
from sbi_aalr.mcmc.kernels import adaptive_random_walk
from sbi_aalr.mcmc.shapes import measure_distances, optimal_scale, spread
from sbi_aalr.mcmc.step import step
from sbi_aalr.types import LogProbFn

# Nats. Within one mode, even a bent one, halfway to a near chain is no such fall.
BARRIER = 30.0
_NUM_NEIGHBOURS = 8
# Beyond these, modes that are lower than all others are left to the first mixture.
_MOST_MODES = 20
# A covariance is known from so many chains a parameter.
_CHAINS_PER_PARAMETER = 10
_FILLED_CHAINS = 200
_NUM_WINDOWS, _STEPS_PER_WINDOW = 4, 100


def separate_modes(position: Tensor, log_prob_fn: LogProbFn) -> list[Tensor]:
    """Divide chains of one observation by the mode in which they stand.

    Args:
        position: Chains, shape `(C, 1, D)`.
        log_prob_fn: Log-density of the target, nats.

    Returns:
        The chains of each mode, shapes `(C', 1, D)`, the highest mode first.
    """
    scaled = (position / spread(position))[:, 0]
    count = min(_NUM_NEIGHBOURS + 1, len(scaled))
    nearest = measure_distances(scaled, scaled).topk(count, largest=False).indices
    log_prob = log_prob_fn(position)
    label = torch.arange(len(scaled), device=scaled.device)
    first, second = label.unsqueeze(1).expand_as(nearest).flatten(), nearest.flatten()
    middle = log_prob_fn((position[first] + position[second]) / 2)
    ends = torch.minimum(log_prob[first], log_prob[second])
    joined = (middle >= ends - BARRIER)[:, 0]
    first, second = first[joined], second[joined]
    while True:
        # Each takes the least number among itself and those that it is joined to.
        lower = label.scatter_reduce(0, first, label[second], "amin")
        lower = lower.scatter_reduce(0, second, lower[first], "amin")
        if torch.equal(lower, label):
            break
        label = lower
    names = label.unique()
    heights = torch.stack([log_prob[label == name].max() for name in names])
    order = heights.argsort(descending=True)[:_MOST_MODES]
    return [position[label == name] for name in names[order]]


def fill_mode(
    generator: Generator, members: Tensor, width: Tensor, log_prob_fn: LogProbFn
) -> Tensor:
    """Give a mode that few chains have found enough of them to know its shape.

    Args:
        generator: Source of randomness, on the device of the chains.
        members: Its chains, shape `(C, 1, D)`.
        width: Widths that its walk begins with, shape `(1, D)`.
        log_prob_fn: Log-density of the target, nats.

    Returns:
        Chains in the mode, shape `(C', 1, D)`; the same where they are enough.
    """
    dim = members.shape[-1]
    if len(members) >= _CHAINS_PER_PARAMETER * dim:
        return members
    rows = torch.arange(_FILLED_CHAINS, device=members.device) % len(members)
    position = members[rows]
    kernel = adaptive_random_walk.KERNEL
    parameters = adaptive_random_walk.Parameters(
        torch.diag_embed(width), adaptation.start(optimal_scale(position))
    )
    state = State(position, log_prob_fn(position))
    for window in range(_NUM_WINDOWS):
        if window:
            parameters = adaptive_random_walk.refit(
                generator, parameters, state.position.unsqueeze(0)
            )
        for _ in range(_STEPS_PER_WINDOW):
            state, info = step(
                generator, state, log_prob_fn, kernel=kernel, parameters=parameters
            )
            parameters = kernel.tune(parameters, info)
    return state.position
