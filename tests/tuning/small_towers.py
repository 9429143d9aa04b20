"""Small towers whose hyperparameters are looked at."""

import torch

from sbi_aalr.networks import two_towers


def build_towers():
    torch.manual_seed(2)
    theta, x = torch.randn(64, 2), torch.randn(64, 3)
    towers = two_towers(hidden_features=16, num_blocks=1, dropout=0.2, num_octaves=3)
    return towers(theta, x), theta, x
