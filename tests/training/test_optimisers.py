"""Which optimizer takes which weights."""

from linear_gaussian import draw_pairs

from sbi_aalr import networks
from sbi_aalr.training.muon import Muon
from sbi_aalr.training.optimisers import build_optimizers
from sbi_aalr.training.recipe import Recipe

RECIPE = Recipe(128, 1, learning_rate=0.003, matrix_learning_rate=0.02)
THETA, _, X = draw_pairs(9, seed=1)


def list_weights(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest():
    towers = networks.two_towers(16, 2)(THETA, X)
    adam, muon = build_optimizers(towers, RECIPE)
    assert isinstance(muon, Muon)
    # Two matrices in each of two blocks in each of two towers.
    assert [p.shape[0] > 1 and p.ndim for p in list_weights(muon)] == [2] * 8
    taken = {id(p) for p in list_weights(adam) + list_weights(muon)}
    assert taken == {id(p) for p in towers.parameters()}
    assert len(build_optimizers(networks.mlp((4,))(THETA, X), RECIPE)) == 1


def test_each_optimizer_remembers_its_own_rate():
    adam, muon = build_optimizers(networks.two_towers(16, 2)(THETA, X), RECIPE)
    assert [group["initial_lr"] for group in adam.param_groups] == [0.003]
    assert [group["initial_lr"] for group in muon.param_groups] == [0.02]


def test_frozen_weights_are_left_out():
    towers = networks.two_towers(16, 2)(THETA, X)
    towers.embedding_net_x.requires_grad_(False)
    taken = {id(p) for o in build_optimizers(towers, RECIPE) for p in list_weights(o)}
    assert taken == {id(p) for p in towers.parameters() if p.requires_grad}
