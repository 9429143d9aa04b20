"""SELU without gradients, against torch's."""

import torch
from torch import nn

from sbi_aalr.networks.selu import SELU


def test_selu_without_gradients_is_torchs():
    x = torch.cat((torch.linspace(-20, 20, 10_001), torch.tensor([-torch.inf, 1e30])))
    expected = nn.SELU()(x)
    torch.testing.assert_close(SELU()(x.clone()), expected, atol=1e-6, rtol=1e-6)
    trained = x[:-2].clone().requires_grad_()
    SELU()(trained).sum().backward()
    slope = (expected[1:-2] - expected[:-3]) / (x[1:-2] - x[:-3])
    assert (trained.grad[1:] - slope).abs().max() < 0.01
