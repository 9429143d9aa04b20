"""The log-density over chains and observations, in blocks."""

import torch
from linear_gaussian import PRIOR, log_ratio, simulate

from sbi_aalr.sampling import ratio_log_prob


def evaluate(posterior, monkeypatch, entries):
    torch.manual_seed(0)
    x = simulate(PRIOR.sample((3,)))
    position = PRIOR.sample((40, 3)).requires_grad_()
    monkeypatch.setitem(ratio_log_prob._BLOCK_ENTRIES, "cpu", entries)
    function = posterior.target.log_prob_fn(x.unsqueeze(1))
    with torch.no_grad():
        plain = function(position)
    value = function(position)
    (gradient,) = torch.autograd.grad(value.sum(), position)
    return plain, value.detach(), gradient, (position.detach(), x)


def test_blocks_equal_a_single_block(posterior, monkeypatch):
    *whole, _ = evaluate(posterior, monkeypatch, 2**18)
    *parts, (position, x) = evaluate(posterior, monkeypatch, 50)
    for part, expected in zip(parts, whole, strict=True):
        assert torch.allclose(part, expected, atol=1e-5)
    assert not parts[0].requires_grad
    exact = log_ratio(position, x) + PRIOR.log_prob(position)
    assert (parts[0] - exact).abs().max() < 0.3
