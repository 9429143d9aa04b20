"""Kernels' parameters lose observations, and get them back."""

from typing import NamedTuple

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc import KERNELS
from sbi_aalr.mcmc.run import run
from sbi_aalr.mcmc.step import init
from sbi_aalr.mcmc.trees import concatenate, select


class Leaf(NamedTuple):
    """Parameters as kernels have them."""

    width: torch.Tensor
    parts: tuple[torch.Tensor, ...]


def make_tree(first=0.0, num_observations=3):
    values = first + torch.arange(float(num_observations))
    return (Leaf(values, (10 * values, values.reshape(-1, 1, 1))), (), values + 100)


def test_select_keeps_the_chosen_observations_of_every_tensor():
    leaf, empty, values = select(make_tree(), torch.tensor([2, 0]))
    assert isinstance(leaf, Leaf)
    assert leaf.width.tolist() == [2.0, 0.0]
    assert leaf.parts[0].tolist() == [20.0, 0.0]
    assert leaf.parts[1].shape == (2, 1, 1)
    assert empty == ()
    assert values.tolist() == [102.0, 100.0]


def test_concatenate_puts_observations_side_by_side():
    leaf, empty, values = concatenate([make_tree(), make_tree(5.0, 1)])
    assert isinstance(leaf, Leaf)
    assert leaf.width.tolist() == [0.0, 1.0, 2.0, 5.0]
    assert leaf.parts[1].flatten().tolist() == [0.0, 1.0, 2.0, 5.0]
    assert empty == ()
    assert values.tolist() == [100.0, 101.0, 102.0, 105.0]


def log_prob_fn(theta):
    return -theta.square().sum(dim=-1) / 2


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_runs_on_parameters_that_were_taken_apart_and_joined(name):
    kernel, start = KERNELS[name], torch.randn(12, 3, 2, generator=make_generator())
    parameters = kernel.build(make_generator(), start)
    parts = [select(parameters, torch.tensor(index)) for index in ([0, 1], [2])]

    def draw(own):
        _, chains = run(
            make_generator(1),
            init(start, log_prob_fn),
            log_prob_fn,
            kernel=kernel,
            parameters=own,
            num_draws=3,
        )
        return chains.theta

    assert torch.equal(draw(concatenate(parts)), draw(parameters))
    # The control: what belongs to whom makes a difference.
    wrong = select(parameters, torch.tensor([2, 0, 1]))
    assert not torch.equal(draw(wrong), draw(parameters))
