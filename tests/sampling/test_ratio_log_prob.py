"""The log-density over chains and observations, in blocks."""

import torch
from linear_gaussian import PRIOR, log_ratio, simulate
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior
from sbi_aalr.networks.residual import residual_mlp
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


def test_network_is_asked_only_where_the_prior_has_density(monkeypatch):
    torch.manual_seed(0)
    prior = BoxUniform(-torch.ones(2), torch.ones(2))
    theta, x = prior.sample((50,)), torch.randn(50, 3)
    estimator = residual_mlp(16)(theta, x)
    monkeypatch.setitem(ratio_log_prob._BLOCK_ROWS, "cpu", 7)
    rows = []
    estimator.embedding_net_theta.register_forward_hook(
        lambda net, inputs, output: rows.append(len(output))
    )
    trials = x[:6].view(3, 2, 3)
    function = MHPosterior.from_estimator(estimator, prior).target.log_prob_fn(trials)
    position = 1.5 * torch.randn(20, 3, 2)
    inside = (position.abs() <= 1).all(dim=-1)
    with torch.no_grad():
        some = function(position)
    asked, rows[:] = sum(rows), []
    every = function(position.requires_grad_()).detach()
    assert 0 < int(inside.sum()) < inside.numel() == sum(rows)
    assert asked == int(inside.sum())
    assert torch.allclose(some, every, atol=1e-5)
    assert some[~inside].isneginf().all() and some[inside].isfinite().all()
    with torch.no_grad():
        nowhere = function(position.detach() + 100)
    assert nowhere.isneginf().all()
