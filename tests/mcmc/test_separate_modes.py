"""Modes are told apart by their chains, and filled where few have found them."""

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc.search import find_missed
from sbi_aalr.mcmc.separate_modes import fill_mode, separate_modes

DIM = 10
CENTRES = torch.tensor([[-3.0], [0.0], [3.0]])
WIDTHS = torch.tensor([0.5, 0.25, 0.4])


def log_modes(position):
    """Three Gaussians of one weight, shape `(C, B, D)` -> `(C, B)`."""
    square = ((position.unsqueeze(-2) - CENTRES) / WIDTHS[:, None]).square().sum(-1)
    return (-square / 2 - DIM * WIDTHS.log()).logsumexp(dim=-1)


def draw(mode, count, seed=0):
    noise = torch.randn(count, 1, DIM, generator=make_generator(seed))
    return CENTRES[mode] + WIDTHS[mode] * noise


def log_banana(position):
    first, second = position[..., 0], position[..., 1]
    bent = (second - first.square()).square() / 0.02
    return -first.square() / 8 - bent - position[..., 2:].square().sum(-1) / 2


def test_modes_are_separated_whatever_their_sizes():
    sizes = (300, 2, 40)
    chains = torch.cat([draw(mode, size) for mode, size in enumerate(sizes)])
    order = torch.randperm(len(chains), generator=make_generator())
    modes = separate_modes(chains[order], log_modes)
    found = {int(mode.mean().round()): len(mode) for mode in modes}
    assert found == {-3: 300, 0: 2, 3: 40}
    # The narrowest is the highest.
    assert float(modes[0].mean().round()) == 0.0


@pytest.mark.parametrize("location", [0.0, 1e4])
def test_modes_are_separated_wherever_they_are(location):
    """Squared distances by a matrix product would be noise so far from zero."""
    chains = torch.cat([draw(0, 300), draw(2, 300)]) + location
    modes = separate_modes(chains, lambda position: log_modes(position - location))
    assert [len(mode) for mode in modes] == [300, 300]
    missed = find_missed(
        chains, chains[::5], lambda position: log_modes(position - location)
    )
    assert not missed.any()


def test_a_bent_mode_is_one():
    generator = make_generator()
    chains = torch.randn(1_000, 1, 4, generator=generator)
    chains[..., 0] *= 2
    chains[..., 1] = chains[..., 0].square() + 0.1 * chains[..., 1]
    assert len(separate_modes(chains, log_banana)) == 1


def test_a_single_chain_becomes_a_population_of_its_mode():
    start = CENTRES[1] + 0.3 * torch.ones(1, 1, DIM)
    filled = fill_mode(make_generator(), start, torch.full((1, DIM), 0.5), log_modes)
    assert filled.shape == (200, 1, DIM)
    assert filled.mean(dim=0).abs().max() < 0.15
    width = filled.std(dim=0)
    assert width.min() > 0.15 and width.max() < 0.35
    # The control: without steps all stand where it stood.
    assert start.expand(200, 1, DIM).std(dim=0).max() == 0


def test_a_mode_that_many_have_found_is_left_as_it_is():
    chains = draw(0, 10 * DIM)
    assert fill_mode(make_generator(), chains, torch.ones(1, DIM), log_modes) is chains
